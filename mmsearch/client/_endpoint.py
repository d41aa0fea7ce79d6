"""Address of an index on a server."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from mmsearch.core.errors import UsageError

_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f]")

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Endpoint:
    """The address of an index on a server.

    Attributes:
        url: URL of the server, without a trailing slash.
        index: Name of the index.
        token: Access token; None if the server needs none.
        timeout_s: Seconds to wait for the server.
    """

    url: str
    index: str
    token: str | None = field(repr=False)
    timeout_s: float

    @classmethod
    def parse(cls, url: str, index: str, token: str | None, timeout_s: float) -> Endpoint:
        """Return an endpoint after checking the URL and the token.

        Raises:
            UsageError: The URL or the token is invalid.
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
                f"Invalid server URL {url!r}.", "Use a URL such as http://127.0.0.1:7788."
            )
        if url_parts.username is not None or url_parts.password is not None:
            raise UsageError(
                "The URL contains a user name or a password.", "Pass a token as token=..."
            )
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("The token contains characters that are not allowed in a token.")
        return cls(url.rstrip("/"), index, token, timeout_s)

    @property
    def is_local(self) -> bool:
        """True if the server runs on this machine, so that no proxy is needed."""
        return urlsplit(self.url).hostname in LOOPBACK_HOSTS

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        token = {} if self.token is None else {"Authorization": f"Bearer {self.token}"}
        return {"Accept": "application/json, */*", **token}

    def path(self, *parts: str | int) -> str:
        """Return the URL path of a resource of the index."""
        return "".join(
            ["/v1/indexes", *(f"/{quote(str(part), safe='')}" for part in (self.index, *parts))]
        )

    def unreachable_message(self, reason: str) -> str:
        """Return the message for a server that does not respond."""
        return f"The server at {self.url} cannot be reached: {reason}."
