"""Who knows the token: by a header, or by a cookie that a browser was given for it."""

from __future__ import annotations

import hashlib
import hmac
import time

from starlette.requests import HTTPConnection

COOKIE = "mmsearch_session"

LASTS_S = 30 * 24 * 3600
"""After so long a browser is asked for the token again."""


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
    return _is_session(token, connection.cookies.get(COOKIE, ""), time.time())


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
