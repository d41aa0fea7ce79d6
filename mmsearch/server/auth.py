"""Who knows the token: by a header, or by a cookie that a browser was given for it."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

SESSION_LIFETIME_S = 30 * 24 * 3600
"""After so long a browser is asked for the token again."""


def cookie_name(connection: HTTPConnection) -> str:
    """What the cookie of a server is called, at the address that a browser asks.

    Cookies know no ports, so that servers of one host would overwrite each other's: the name has
    the port that the browser sees, which a proxy passes on with the name. With TLS its prefix keeps
    other hosts of the domain, and pages without TLS, from setting it (RFC 6265bis, 4.1.3.2).
    """
    try:
        port = urlsplit(f"//{connection.headers.get('host', '')}").port
    except ValueError:
        port = None
    name = "mmsearch_session" if port is None else f"mmsearch_session_{port}"
    return f"__Host-{name}" if is_https(connection) else name


def is_https(connection: HTTPConnection) -> bool:
    """Whether a request came over TLS, to this server or to a proxy before it."""
    return bool(connection.scope.get("scheme") == "https")


def is_authenticated(token: str | None, connection: HTTPConnection) -> bool:
    """Whether a request may be answered.

    Args:
        token: Of the server; None: whoever reaches it may ask.
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
    """Compare in a time that says nothing about where they differ."""
    # A header's bytes come as Latin-1; a form's text may hold anything.
    return any(
        hmac.compare_digest(candidate.encode(encoding, "replace"), token.encode())
        for encoding in ("latin-1", "utf-8")
    )


def create_session(token: str) -> str:
    """What a browser keeps: it cannot be made without the token, nor the token be read from it."""
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
