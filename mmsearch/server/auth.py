"""Authentication by the server's token: a bearer header, or a signed session cookie."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

SESSION_LIFETIME_S = 30 * 24 * 3600
"""Seconds until a session expires and the browser has to send the token again."""


def cookie_name(connection: HTTPConnection) -> str:
    """Return the name of the session cookie for the address that the browser uses.

    Cookies are not separated by port, so servers on one host would overwrite each other's cookies:
    the name contains the port that the browser sees, which a proxy passes on in the Host header.
    With TLS, its prefix prevents other hosts of the domain and pages without TLS from setting it
    (RFC 6265bis, 4.1.3.2).
    """
    try:
        port = urlsplit(f"//{connection.headers.get('host', '')}").port
    except ValueError:
        port = None
    name = "mmsearch_session" if port is None else f"mmsearch_session_{port}"
    return f"__Host-{name}" if is_https(connection) else name


def is_https(connection: HTTPConnection) -> bool:
    """Return True if a request came over TLS, to this server or to a proxy in front of it."""
    return bool(connection.scope.get("scheme") == "https")


def is_authenticated(token: str | None, connection: HTTPConnection) -> bool:
    """Return True if a request carries the token or a valid session.

    Args:
        token: Token of the server; None if every client may send requests.
        connection: The request.
    """
    if token is None:
        return True
    scheme, _, candidate = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token_matches(token, candidate.strip()):
        return True
    return _is_valid_session(
        token, connection.cookies.get(cookie_name(connection), ""), time.time()
    )


def token_matches(token: str, candidate: str) -> bool:
    """Compare two tokens in constant time."""
    # Header bytes are decoded as Latin-1; text of a form may hold any character.
    return any(
        hmac.compare_digest(candidate.encode(encoding, "replace"), token.encode())
        for encoding in ("latin-1", "utf-8")
    )


def create_session(token: str) -> str:
    """Return a session cookie value.

    It is signed with the token, so nobody can forge it without the token or read the token from it.
    """
    return _sign_session(token, int(time.time()))


def _sign_session(token: str, created_s: int) -> str:
    signature = hmac.new(token.encode(), f"mmsearch session {created_s}".encode(), hashlib.sha256)
    return f"{created_s}.{signature.hexdigest()}"


def _is_valid_session(token: str, candidate: str, now_s: float) -> bool:
    created_s, _, _ = candidate.partition(".")
    if not created_s.isascii() or not created_s.isdecimal() or len(created_s) > 12:
        return False
    is_signature_valid = hmac.compare_digest(
        candidate.encode(), _sign_session(token, int(created_s)).encode()
    )
    return is_signature_valid and now_s - int(created_s) < SESSION_LIFETIME_S
