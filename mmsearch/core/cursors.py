"""Cursors: short opaque texts that say where a page begins, each valid for one query.

They depend on nothing but the query and the position, so that every server of an index understands
those of the others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from mmsearch.core.errors import InvalidQueryError

DIGEST_BYTES = 6
"""Size of the digest of a query: enough to notice another query, few enough for a short text."""


def encode_cursor(position: int, query: str) -> str:
    """Return the cursor of the page that begins after a position.

    Args:
        position: Number above 0.
        query: A text that is different for each query.
    """
    number = position.to_bytes((position.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(_digest(query) + number).rstrip(b"=").decode()


def decode_cursor(cursor: str | None, query: str, limit: int) -> int:
    """Return the position after which a page begins; 0 for the first page.

    Args:
        cursor: Made by `encode_cursor`; None for the first page.
        query: The text that the query of this page has.
        limit: Number above all positions.

    Raises:
        InvalidQueryError: The cursor is not valid, or is of another query.
    """
    if cursor is None:
        return 0
    position = cursor_position(cursor, limit)
    if cursor != encode_cursor(position, query):
        raise InvalidQueryError(
            "The cursor is of another query.",
            "Repeat the query of the answer that it comes from, or omit the cursor.",
        )
    return position


def cursor_position(cursor: str | None, limit: int) -> int:
    """Return the position of a cursor before its query is known; see `decode_cursor`."""
    if cursor is None:
        return 0
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        content = base64.b64decode(padded, b"-_", validate=True)
    except (ValueError, binascii.Error):
        content = b""
    position = int.from_bytes(content[DIGEST_BYTES:][:9], "big")
    if not 0 < position < limit:
        raise InvalidQueryError(
            "Invalid cursor.", "Use next_cursor of an earlier answer, or omit the cursor."
        )
    return position


def _digest(query: str) -> bytes:
    return hashlib.blake2b(
        query.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES
    ).digest()
