"""Who knows the token: by a header, or by a cookie that a browser was given for it."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

LASTS_S = 30 * 24 * 3600
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
    return f"__Host-{name}" if is_encrypted(connection) else name


def is_encrypted(connection: HTTPConnection) -> bool:
    """Whether a request came over TLS, to this server or to a proxy before it."""
    return bool(connection.scope.get("scheme") == "https")


def knows_token(token: str | None, connection: HTTPConnection) -> bool:
    """Whether a request may be answered.

    Args:
        token: Of the server; None: whoever reaches it may ask.
        connection: The request.
    """
    if token is None:
        return True
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and is_token(token, given.strip()):
        return True
    return _is_session(token, connection.cookies.get(cookie_name(connection), ""), time.time())


def is_token(token: str, given: str) -> bool:
    """Compare in a time that says nothing about where they differ."""
    # A header's bytes come as Latin-1; a form's text may hold anything.
    return any(
        hmac.compare_digest(given.encode(encoding, "replace"), token.encode())
        for encoding in ("latin-1", "utf-8")
    )


def new_session(token: str) -> str:
    """What a browser keeps: it cannot be made without the token, nor the token be read from it."""
    return _session(token, int(time.time()))


def _session(token: str, began: int) -> str:
    sealed = hmac.new(token.encode(), f"mmsearch session {began}".encode(), hashlib.sha256)
    return f"{began}.{sealed.hexdigest()}"


def _is_session(token: str, given: str, now: float) -> bool:
    began, _, _ = given.partition(".")
    if not began.isascii() or not began.isdecimal() or len(began) > 12:
        return False
    same = hmac.compare_digest(given.encode(), _session(token, int(began)).encode())
    return same and now - int(began) < LASTS_S
