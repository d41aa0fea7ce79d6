"""Authentication by the server's token: a bearer header, or a signed session cookie."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import urlsplit

from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import HTTPConnection

from mmsearch.server.forwarded import get_root_path

SESSION_LIFETIME_S = 30 * 24 * 3600
"""Seconds until a session expires and the browser has to send the token again."""


def cookie_name(connection: HTTPConnection) -> str:
    """Return the name of the session cookie for the address that the browser uses.

    Cookies are not separated by port, and servers below a path also get those of its parents: the
    name contains the port that the browser sees, which a proxy passes on in the Host header, and
    the root path. With TLS, its prefix prevents other hosts of the domain and pages without TLS
    from setting it (RFC 6265bis, 4.1.3); ``__Host-`` cookies cannot be limited to a path.
    """
    try:
        port = urlsplit(f"//{connection.headers.get('host', '')}").port
    except ValueError:
        port = None
    root_path = get_root_path(connection.scope)
    name = "mmsearch_session" if port is None else f"mmsearch_session_{port}"
    # A name cannot contain a slash.
    name += root_path.replace("/", "!")
    if not is_https(connection):
        return name
    return f"__Secure-{name}" if root_path else f"__Host-{name}"


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
    session = connection.cookies.get(cookie_name(connection), "")
    try:
        _session_signer(token).unsign(session, max_age=SESSION_LIFETIME_S)
    except BadSignature:
        return False
    return True


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
    return _session_signer(token).sign(b"session").decode()


def _session_signer(token: str) -> TimestampSigner:
    return TimestampSigner(token, salt="mmsearch session", digest_method=hashlib.sha256)
