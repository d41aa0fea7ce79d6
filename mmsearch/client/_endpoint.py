"""Where a server is, and how it is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from mmsearch.core.errors import UsageError

_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f]")

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Endpoint:
    """An index on a server.

    Attributes:
        url: The server's, without a slash at its end.
        index: The index's name.
        token: What the server wants to know; None: nothing.
        timeout_s: How long it may be silent.
    """

    url: str
    index: str
    token: str | None = field(repr=False)
    timeout_s: float

    @classmethod
    def parse(cls, url: str, index: str, token: str | None, timeout_s: float) -> Endpoint:
        """An address that can be asked.

        Raises:
            UsageError: The URL or the token cannot be one.
        """
        try:
            url_parts = urlsplit(url)
            has_host = bool(url_parts.hostname) and url_parts.port != 0
            is_valid = (
                url_parts.scheme in ("http", "https") and has_host and not _INVISIBLE.search(url)
            )
        except ValueError:
            is_valid = False
        if not is_valid or url_parts.query or url_parts.fragment:
            raise UsageError(
                f"{url!r} is no URL of a server.", "Write one such as http://127.0.0.1:7788."
            )
        if url_parts.username is not None or url_parts.password is not None:
            raise UsageError("The URL holds a name or a password.", "Give a token as token=...")
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("The token holds characters that no token has.")
        return cls(url.rstrip("/"), index, token, timeout_s)

    @property
    def is_local(self) -> bool:
        """Whether it is this machine: no proxy stands between."""
        return urlsplit(self.url).hostname in LOOPBACK_HOSTS

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        token = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {"Accept": "application/json, */*", **token}

    def path(self, *parts: str | int) -> str:
        """Of a URL below the index."""
        return "".join(
            ["/v1/indexes", *(f"/{quote(str(part), safe='')}" for part in (self.index, *parts))]
        )

    def unreachable_message(self, reason: str) -> str:
        """A sentence about a server that does not answer."""
        return f"The server at {self.url} cannot be reached: {reason}."
