"""Fetcher of pictures from untrusted URLs, guarded against server-side request forgery (SSRF).

Each request resolves the host name once, checks all its addresses and connects to one of them.
The errors of `Fetcher.fetch`, which strangers see, reveal nothing about the server's network: the
message is the same for a host that does not answer and for one that is not allowed. Those of
`Fetcher.download` are for the operator and say what happened.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import cache
from typing import BinaryIO

from mmsearch import __version__
from mmsearch.core.errors import BusyError, MissingExtraError, SourceError
from mmsearch.sources._web.addresses import AddressBlockedError, AddressPolicy, HttpUrl, display_url

try:
    import httpcore2
except ModuleNotFoundError as missing:
    raise MissingExtraError.for_extra("Fetching pictures", "httpcore2", "urls") from missing

MAX_CONCURRENT = 8
"""Maximum number of pictures fetched at the same time."""

QUEUE_TIMEOUT_S = 10.0
"""Seconds that a fetch may wait for its turn."""

FETCH_DEADLINE_S = 15.0
"""Seconds from resolving the name to the last byte, including redirects."""

MAX_REDIRECTS = 3

MAX_ADDRESSES = 3
"""Maximum number of addresses tried for one name."""

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of responses after which a retry may succeed."""

TIMEOUTS_S = {"connect": 4.0, "read": 10.0, "write": 4.0, "pool": 4.0}

REQUEST_HEADERS = (
    ("User-Agent", f"mmsearch/{__version__}"),
    # The decompressed size of a compressed body is not known in advance.
    ("Accept-Encoding", "identity"),
    ("Connection", "close"),
)

FETCH_ERRORS = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    AddressBlockedError,
    TimeoutError,
    ssl.SSLError,
    ValueError,
)
"""Errors reported with the same message, so that it reveals nothing about the network."""


Headers = dict[bytes, bytes]

_REDIRECT = b":redirect"


class FetchError(Exception):
    """The content at a URL cannot be fetched.

    Args:
        reason: The reason as a clause, with details of the network.
        transient: True if a retry may succeed.
        status: HTTP status of the response, if there was one.
        retry_after_s: Seconds that the server wants a client to wait.
        is_blocked: True if the address policy forbids the address.
    """

    def __init__(
        self,
        reason: str,
        *,
        transient: bool = False,
        status: int | None = None,
        retry_after_s: float = 0.0,
        is_blocked: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient
        self.status = status
        self.retry_after_s = retry_after_s
        self.is_blocked = is_blocked


class _NotAPictureError(FetchError):
    """Raised when the answer of a server cannot be a picture."""


class _TooLargeError(FetchError):
    """Raised when a server sends more than the limit."""


class PolicyBackend(httpcore2.AsyncNetworkBackend):
    """Network backend that connects only to allowed addresses.

    Args:
        address_policy: Resolves hosts to allowed addresses.
        inner_backend: Opens the connections.
    """

    def __init__(
        self, address_policy: AddressPolicy, inner_backend: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._address_policy = address_policy
        self._inner_backend = inner_backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to one of the checked addresses of a host.

        Raises:
            AddressBlockedError: See `AddressPolicy.resolve_allowed`.
            httpcore2.NetworkError: No address accepts the connection.
            httpcore2.TimeoutException: No address answers in time.
        """
        *other_addresses, last_address = (await self._address_policy.resolve_allowed(host, port))[
            :MAX_ADDRESSES
        ]
        for address in other_addresses:
            try:
                return await self._inner_backend.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._inner_backend.connect_tcp(
            last_address, port, timeout, local_address, socket_options
        )


@cache
def _default_tls() -> ssl.SSLContext:
    """Return a context with the certificates of this machine, whose loading takes long."""
    context: ssl.SSLContext = httpcore2.default_ssl_context()
    return context


class Fetcher:
    """Fetches pictures from URLs, for one event loop.

    Args:
        limit_mb: Maximum size of a picture in megabytes.
        address_policy: Addresses that may be connected to; None for public web servers.
        max_concurrent: Maximum number of pictures fetched at the same time.
        queue_timeout_s: Seconds that a fetch may wait for its turn; None for any time.
        deadline_s: Seconds that a fetch may take after that; None for any time.
        accept: Media types that servers are asked for.
    """

    def __init__(
        self,
        limit_mb: float,
        address_policy: AddressPolicy | None = None,
        *,
        max_concurrent: int = MAX_CONCURRENT,
        queue_timeout_s: float | None = QUEUE_TIMEOUT_S,
        deadline_s: float | None = FETCH_DEADLINE_S,
        accept: str = "image/*",
    ) -> None:
        address_policy = address_policy or AddressPolicy()
        self._limit_mb = limit_mb
        self._ssl_context = address_policy.tls or _default_tls()
        self._network_backend = PolicyBackend(address_policy, httpcore2.AnyIOBackend())
        self._max_concurrent = max_concurrent
        self._slots = asyncio.Semaphore(max_concurrent)
        self._queue_timeout_s = queue_timeout_s
        self._deadline_s = deadline_s
        self._accept = accept

    async def fetch(self, url: str, file: BinaryIO) -> None:
        """Write the content at a URL to a file, without checking that it is a picture.

        Raises:
            SourceError: The content cannot be fetched. The message does not reveal details of the
                network.
            BusyError: Too many other pictures are being fetched.
        """
        shown_url = display_url(url)
        try:
            parsed_url = HttpUrl.parse(url)
        except ValueError as error:
            raise SourceError(
                f"{shown_url} is not a URL of a picture.",
                "Use an http or https URL without a user name or password.",
            ) from error
        async with self._slot():
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._follow_redirects(parsed_url, file)
            except _TooLargeError as error:
                raise SourceError(
                    f"The picture at {shown_url} is larger than {self._limit_mb:g} MB."
                ) from error
            except _NotAPictureError as error:
                raise SourceError(f"The server at {shown_url} did not return a picture.") from error
            except FETCH_ERRORS as error:
                raise SourceError(
                    f"The picture at {shown_url} cannot be fetched.",
                    "Only public web servers are allowed, and they must answer within"
                    f" {self._deadline_s:g} seconds.",
                ) from error

    async def download(self, url: str, file: BinaryIO | None) -> Headers:
        """Write the content at a URL to a file, for the operator's own list of URLs.

        Args:
            url: The URL.
            file: The file; None if only the headers are of interest.

        Returns:
            The headers of the response, with names in lower case.

        Raises:
            FetchError: The content cannot be fetched; it says why.
            BusyError: Too many others are being fetched.
        """
        try:
            parsed_url = HttpUrl.parse(url)
        except ValueError as error:
            raise FetchError("it is not an http or https URL without a password") from error
        async with self._slot():
            try:
                async with asyncio.timeout(self._deadline_s):
                    return await self._follow_redirects(parsed_url, file)
            except FETCH_ERRORS as error:
                raise _describe(error, self._deadline_s) from error

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._queue_timeout_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise BusyError(
                f"{self._max_concurrent} pictures are already being fetched.",
                "Try again later.",
            ) from error
        try:
            yield
        finally:
            self._slots.release()

    async def _follow_redirects(self, parsed_url: HttpUrl, file: BinaryIO | None) -> Headers:
        for _ in range(MAX_REDIRECTS + 1):
            headers = await self._request(parsed_url, file)
            location = headers.pop(_REDIRECT, None)
            if location is None:
                return headers
            parsed_url = parsed_url.join(location.decode("utf-8", "replace"))
        raise _NotAPictureError(f"more than {MAX_REDIRECTS} redirects")

    async def _request(self, parsed_url: HttpUrl, file: BinaryIO | None) -> Headers:
        """Write the content and return the headers, with `_REDIRECT` if they redirect."""
        url = httpcore2.URL(
            scheme=parsed_url.scheme,
            host=parsed_url.host,
            port=parsed_url.port,
            target=parsed_url.target,
        )
        # No connection outlives its request, so every request resolves its host name again.
        async with (
            httpcore2.AsyncConnectionPool(
                self._ssl_context, max_connections=1, network_backend=self._network_backend
            ) as pool,
            pool.stream(
                "HEAD" if file is None else "GET",
                url,
                headers=[
                    ("Host", parsed_url.authority),
                    ("Accept", self._accept),
                    *REQUEST_HEADERS,
                ],
                extensions={"timeout": TIMEOUTS_S},
            ) as response,
        ):
            response_headers = {name.lower(): value for name, value in response.headers}
            if response.status in (301, 302, 303, 307, 308) and b"location" in response_headers:
                return response_headers | {_REDIRECT: response_headers[b"location"]}
            content_encoding = (
                response_headers.get(b"content-encoding", b"identity").strip().lower()
            )
            if response.status != 200:
                raise _NotAPictureError(
                    f"HTTP status {response.status}",
                    transient=response.status in TRANSIENT_STATUSES,
                    status=response.status,
                    retry_after_s=_parse_seconds(response_headers.get(b"retry-after", b"")),
                )
            if content_encoding != b"identity":
                raise _NotAPictureError("the server sends compressed content")
            if file is not None:
                content_length = int(response_headers.get(b"content-length", b"0"))
                await self._write_body(response, content_length, file)
        return response_headers

    async def _write_body(
        self, response: httpcore2.Response, content_length: int, file: BinaryIO
    ) -> None:
        limit_bytes, received_bytes = int(self._limit_mb * 1e6), 0
        if content_length > limit_bytes:
            raise self._too_large()
        async for chunk in response.aiter_stream():
            received_bytes += len(chunk)
            if received_bytes > limit_bytes:
                raise self._too_large()
            file.write(chunk)

    def _too_large(self) -> FetchError:
        return _TooLargeError(f"it is larger than {self._limit_mb:g} MB")


def _parse_seconds(value: bytes) -> float:
    return float(value) if value.isdigit() and len(value) < 6 else 0.0


def _describe(error: Exception, deadline_s: float | None) -> FetchError:
    if isinstance(error, FetchError):
        return error
    if isinstance(error, AddressBlockedError):
        return FetchError(error.reason, is_blocked=True)
    if isinstance(error, httpcore2.TimeoutException | TimeoutError):
        seconds = "" if deadline_s is None else f" within {deadline_s:g} seconds"
        return FetchError(f"the server did not answer{seconds}", transient=True)
    if isinstance(error, ssl.SSLError) or "certificate" in str(error).lower():
        return FetchError("the server has no valid certificate")
    if isinstance(error, ValueError):
        return FetchError("the answer of the server is not valid")
    return FetchError("the connection to the server failed", transient=True)
