"""Pictures are fetched from URLs that whoever asks may choose, and who asks is not trusted.

A name is resolved once for each request, every address of it is looked at, and the connection goes
to one of those. Errors say nothing of what is inside the network of the server: a place that does
not answer and one that may not be asked are told in one sentence.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import BinaryIO

from mmsearch import __version__
from mmsearch.core.errors import BusyError, MissingExtraError, SourceError
from mmsearch.server.address_policy import OutOfReachError, Reach
from mmsearch.server.http_url import WebAddress, quoted

try:
    import httpcore2
except ModuleNotFoundError as missing:
    raise MissingExtraError(
        "Fetching pictures needs the Python package 'httpcore2', which is not installed.",
        "Install it with: pip install 'mmsearch[urls]'",
    ) from missing

AT_ONCE = 8
"""Pictures that are fetched at a time."""

WAITS_S = 10.0
"""So long one waits for its turn."""

DEADLINE_S = 15.0
"""From looking up the name to the last byte, redirects included."""

REDIRECTS = 3

TRIED = 3
"""Addresses of one name."""

TIMEOUTS_S = {"connect": 4.0, "read": 10.0, "write": 4.0, "pool": 4.0}

HEADERS = (
    ("User-Agent", f"mmsearch/{__version__}"),
    ("Accept", "image/*"),
    # A body that unfolds has no size that can be known before.
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)

FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    OutOfReachError,
    TimeoutError,
    ssl.SSLError,
    ValueError,
)
"""What is told in one sentence."""


class _NoPictureError(Exception):
    """A server answers, but not with what can be a picture."""


class _TooLargeError(Exception):
    """More is sent than is taken."""


class Vetting(httpcore2.AsyncNetworkBackend):
    """Connects only where it may be.

    Args:
        reach: Says where.
        inner: Connects to addresses.
    """

    def __init__(self, reach: Reach, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._reach = reach
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """A connection to one of the addresses that were looked at.

        Raises:
            OutOfReachError: See `Reach.addresses`.
            httpcore2.NetworkError: None of them answers.
            httpcore2.TimeoutException: Likewise.
        """
        *first, last = (await self._reach.addresses(host, port))[:TRIED]
        for address in first:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(last, port, timeout, local_address, socket_options)


class Fetcher:
    """Fetches pictures, for one event loop.

    Args:
        limit_mb: Megabytes of a picture.
        reach: From where.
        at_once: So many at a time.
        waits_s: So long one waits for its turn, in seconds.
        deadline_s: So long a picture may take then.
    """

    def __init__(
        self,
        limit_mb: float,
        reach: Reach | None = None,
        *,
        at_once: int = AT_ONCE,
        waits_s: float = WAITS_S,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        reach = reach or Reach()
        self._limit_mb = limit_mb
        self._tls = reach.tls or httpcore2.default_ssl_context()
        self._network = Vetting(reach, httpcore2.AnyIOBackend())
        self._at_once = at_once
        self._turns = asyncio.Semaphore(at_once)
        self._waits_s = waits_s
        self._deadline_s = deadline_s

    async def fetch(self, url: str, file: BinaryIO) -> None:
        """Write what is at a URL to a file. Whether it is a picture is not looked at.

        Raises:
            SourceError: It cannot be had; the sentence says of the cause what may be known.
            BusyError: Too many others are being fetched.
        """
        shown = quoted(url)
        try:
            address = WebAddress.of(url)
        except ValueError as error:
            raise SourceError(
                f"{shown} is no URL of a picture.",
                "Write one of http or https, without a name or a password.",
            ) from error
        async with self._turn():
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._follow(address, file)
            except _TooLargeError as error:
                raise SourceError(
                    f"The picture at {shown} is larger than {self._limit_mb:g} MB."
                ) from error
            except _NoPictureError as error:
                raise SourceError(f"The server at {shown} answers with no picture.") from error
            except FAILURES as error:
                raise SourceError(
                    f"The picture at {shown} cannot be fetched.",
                    "Only public web servers are asked, which must answer within"
                    f" {self._deadline_s:g} seconds.",
                ) from error

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._waits_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise BusyError(
                f"{self._at_once} pictures are being fetched already.", "Ask again in a while."
            ) from error
        try:
            yield
        finally:
            self._turns.release()

    async def _follow(self, address: WebAddress, file: BinaryIO) -> None:
        for _ in range(REDIRECTS + 1):
            location = await self._asked(address, file)
            if location is None:
                return
            address = address.redirected(location)
        raise _NoPictureError

    async def _asked(self, address: WebAddress, file: BinaryIO) -> str | None:
        """Write the picture; or where the server says that it is."""
        url = httpcore2.URL(
            scheme=address.scheme, host=address.host, port=address.port, target=address.target
        )
        # No connection outlives its request: the next name is looked up anew.
        async with (
            httpcore2.AsyncConnectionPool(
                self._tls, max_connections=1, network_backend=self._network
            ) as pool,
            pool.stream(
                "GET",
                url,
                headers=[("Host", address.authority), *HEADERS],
                extensions={"timeout": TIMEOUTS_S},
            ) as response,
        ):
            said = {name.lower(): value for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and b"location" in said:
                return said[b"location"].decode("utf-8", "replace")
            folded = said.get(b"content-encoding", b"identity").strip().lower()
            if response.status != 200 or folded != b"identity":
                raise _NoPictureError
            await self._keep(response, int(said.get(b"content-length", b"0")), file)
        return None

    async def _keep(self, response: httpcore2.Response, declared: int, file: BinaryIO) -> None:
        limit, got = int(self._limit_mb * 1e6), 0
        if declared > limit:
            raise _TooLargeError
        async for part in response.aiter_stream():
            got += len(part)
            if got > limit:
                raise _TooLargeError
            file.write(part)
