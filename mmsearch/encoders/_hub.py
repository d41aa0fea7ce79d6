"""Requests to a model hub: what it says about a file, and the file's bytes from a position on."""

from __future__ import annotations

import email.utils
import http.client
import json
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, TypeVar

from mmsearch.core.errors import ChecksumError, Hint, ModelUnavailableError

TIMEOUT_S: Final = 30.0
"""Seconds without any byte after which a connection counts as lost."""

BACKOFF_S: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each further attempt of a request that failed for now."""

MAX_RETRY_AFTER_S: Final = 60.0
"""Longest wait that a hub may ask for; a longer one is reported instead."""

_MAX_REDIRECTS: Final = 5
_PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MISSING_STATUSES: Final = frozenset({404, 410})
_REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
Result = TypeVar("Result")

_SHA256: Final = re.compile(r"[0-9a-f]{64}")

IMPORT_HINT: Final = Hint(
    "To bring a model from a machine that has it: {}.",
    "mmsearch.export_model() there, mmsearch.import_model() here",
    "'mmsearch models export FILE' there, 'mmsearch models import FILE' here",
)


class PassingError(Exception):
    """A request failed in a way that another attempt may not.

    Args:
        reason: What happened, as a clause.
        wait_s: Seconds that the hub asks to wait; None if it does not say.
        final: The error to raise if no attempt succeeds; None for the caller's own.
        no_hub: True if nothing listens at the address, so that a first request is not repeated.
    """

    def __init__(
        self,
        reason: str,
        wait_s: float | None = None,
        final: ModelUnavailableError | None = None,
        *,
        no_hub: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.final = final
        self.no_hub = no_hub


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, as the hub describes it.

    Attributes:
        repository: Name of the repository.
        name: Name of the file.
        revision: Commit of the repository, or the branch if the hub does not say the commit.
        url: Address of the file at the hub.
        size: Size in bytes; None if the hub does not say.
        sha256: Checksum that the hub states; None if it does not state one.
    """

    repository: str
    name: str
    revision: str
    url: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True)
class RepositoryInfo:
    """Licence and checksums that the hub's API states; empty for a plain file server.

    Attributes:
        licence: Its licence; None if unknown.
        sha256_by_file: Checksums of its large files.
    """

    licence: str | None = None
    sha256_by_file: Mapping[str, str] = field(default_factory=dict)


class HubClient:
    """Client of a model hub with the interface of huggingface.co.

    The endpoint is ``$HF_ENDPOINT``; the token, ``$HF_TOKEN`` or the saved one, is sent to that
    host only.

    Args:
        report: Called with a sentence before a request is tried again.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        report: Callable[[str], None] = lambda line: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        from huggingface_hub import constants, get_token  # noqa: PLC0415 - queries need no hub

        self.endpoint = constants.ENDPOINT.rstrip("/")
        parts = urllib.parse.urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelUnavailableError(
                f"HF_ENDPOINT is {self.endpoint!r}, which is not the address of a model hub.",
                "Set it to an address that starts with https://, or unset it.",
            )
        self._host = parts.netloc
        self._token = get_token()
        self.report = report
        self._sleep = sleep
        self._opener = urllib.request.build_opener(_NoRedirects)

    @property
    def is_official(self) -> bool:
        """True if the hub is huggingface.co, not a mirror or a hub of one's own."""
        return self._host == "huggingface.co"

    # --- what the hub says ---

    def repository_info(self, repository: str, revision: str) -> RepositoryInfo:
        """Return what the hub's API says about a repository; nothing if it has no such API."""
        url = f"{self.endpoint}/api/models/{repository}/revision/{_quote(revision)}?blobs=true"
        try:
            with self._follow("GET", url, {}) as response:
                stated = json.loads(response.read(50_000_000))
            card = stated.get("cardData") or {}
            tags = [tag for tag in stated.get("tags") or [] if tag.startswith("license:")]
            licence = card.get("license") or (tags[0].partition(":")[2] if tags else None)
            checksums = {
                file["rfilename"]: file["lfs"]["sha256"]
                for file in stated.get("siblings") or []
                if _SHA256.fullmatch((file.get("lfs") or {}).get("sha256") or "")
            }
        # An API that answers with anything else says nothing; the file itself is asked next.
        except (
            ModelUnavailableError,
            PassingError,
            OSError,
            http.client.HTTPException,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ):
            return RepositoryInfo()
        return RepositoryInfo(str(licence) if licence else None, checksums)

    def find_file(self, repository: str, name: str, revision: str) -> HubFile | None:
        """Return what the hub says about a file, or None if it has no such file.

        Raises:
            ModelUnavailableError: The hub does not answer, or refuses.
        """
        return self.retry(lambda: self._find_file(repository, name, revision))

    def _find_file(self, repository: str, name: str, revision: str) -> HubFile | None:
        url = f"{self.endpoint}/{repository}/resolve/{_quote(revision)}/{_quote(name)}"
        try:
            headers = self._read_headers(url)
        except ModelUnavailableError as error:
            if error.details.get("status") in _MISSING_STATUSES:
                return None
            raise
        stated = [
            etag
            for header in ("X-Linked-Etag", "ETag")
            if _SHA256.fullmatch(etag := _plain_etag(headers.get(header)))
        ]
        size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
        return HubFile(
            repository,
            name,
            headers.get("X-Repo-Commit") or revision,
            url,
            int(size) if size.isdecimal() else None,
            stated[0] if stated else None,
        )

    def _read_headers(self, url: str) -> http.client.HTTPMessage:
        """Return the headers of a file; of the hub's own answer if it redirects to a store."""
        try:
            return self._head(url, "HEAD")
        except ModelUnavailableError as error:
            # Not every file server knows HEAD.
            if error.details.get("status") not in (405, 501):
                raise
        return self._head(url, "GET")

    def _head(self, url: str, method: str) -> http.client.HTTPMessage:
        described: dict[str, str] = {}
        for _ in range(_MAX_REDIRECTS):
            with self._request(method, url, {}) as response:
                described = {**dict(response.headers.items()), **described}
                headers = http.client.HTTPMessage()
                for key, value in described.items():
                    headers[key] = value
                if response.status not in _REDIRECT_STATUSES:
                    _refuse_web_page(response, url)
                    return headers
                if headers.get("X-Linked-Etag") and headers.get("X-Linked-Size"):
                    return headers
                # The length of a redirect is not that of the file.
                described = {
                    key: value for key, value in described.items() if key.lower().startswith("x-")
                }
                url = _redirect_target(response, url)
        raise ModelUnavailableError(f"The hub redirects {url} in a circle.", IMPORT_HINT)

    # --- the bytes of a file ---

    def open_file(self, file: HubFile, offset: int, etag: str | None) -> http.client.HTTPResponse:
        """Open a file from a position on.

        Args:
            file: The file.
            offset: Number of bytes to leave out. The server may ignore it, or find that the file
                has changed; its status is 206 only if it does not.
            etag: The ETag under which the bytes before the position were sent; None if unknown.

        Raises:
            ModelUnavailableError: The hub refuses.
            PassingError: It does not answer for now.
        """
        headers = {}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if etag and not etag.startswith("W/"):
                headers["If-Range"] = etag
        response = self._follow("GET", file.url, headers)
        try:
            _refuse_web_page(response, file.url)
        except BaseException:
            response.close()
            raise
        return response

    # --- requests ---

    def retry(self, attempt: Callable[[], Result]) -> Result:
        """Return the result of a request; try it again if it fails for now.

        Raises:
            ModelUnavailableError: The hub refuses, or no attempt succeeds.
        """
        for wait_s in (*BACKOFF_S, None):
            try:
                return attempt()
            except PassingError as error:
                if wait_s is None or error.no_hub:
                    raise (error.final or self.unreachable_error(error.reason)) from error
                self.wait(error, wait_s)
        raise AssertionError

    def wait(self, error: PassingError, wait_s: float) -> None:
        """Wait before another attempt, as long as the hub asks for.

        Raises:
            ModelUnavailableError: It asks for more than `MAX_RETRY_AFTER_S`.
        """
        seconds = max(wait_s, error.wait_s or 0)
        if seconds > MAX_RETRY_AFTER_S:
            raise ModelUnavailableError(
                f"The hub at {self.endpoint} asks to wait {seconds:.0f} s before the next request.",
                "Run the same command again after that; what has arrived is kept.",
            ) from error
        self.report(
            f"{error.reason[:1].upper()}{error.reason[1:]}; trying again in {seconds:.0f} s."
        )
        self._sleep(seconds)

    def unreachable_error(self, reason: str) -> ModelUnavailableError:
        """Return the error for a hub that does not answer."""
        return ModelUnavailableError(
            f"The model hub {self.endpoint} does not answer: {reason}.", IMPORT_HINT
        )

    def _follow(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """Send a request and follow redirects."""
        for _ in range(_MAX_REDIRECTS):
            response = self._request(method, url, headers)
            if response.status not in _REDIRECT_STATUSES:
                return response
            with response:
                url = _redirect_target(response, url)
        raise ModelUnavailableError(f"The hub redirects {url} in a circle.", IMPORT_HINT)

    def _request(
        self, method: str, url: str, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """Send one request; redirects are returned, other errors raised."""
        request = urllib.request.Request(  # noqa: S310 - the scheme is checked
            url, method=method, headers={"User-Agent": "mmsearch", **headers}
        )
        if self._token and urllib.parse.urlsplit(url).netloc == self._host:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            response: http.client.HTTPResponse = self._opener.open(request, timeout=TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code in _REDIRECT_STATUSES:
                return error  # type: ignore[return-value]
            with error:
                raise self._refusal(error, url) from error
        except urllib.error.URLError as error:
            raise self._connection_error(error.reason) from error
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from error
        return response

    def _connection_error(self, reason: object) -> Exception:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ModelUnavailableError(
                f"The certificate of {self.endpoint} is not trusted: {reason.verify_message}.",
                "Check the clock of this machine and the certificates of its proxy.",
            )
        if isinstance(reason, TimeoutError):
            return PassingError("no answer in time")
        if isinstance(reason, ConnectionRefusedError):
            return PassingError("the connection is refused", no_hub=True)
        if isinstance(reason, socket.gaierror):
            return PassingError("its name cannot be resolved", no_hub=True)
        return PassingError(describe_connection_error(reason))

    def _refusal(self, error: urllib.error.HTTPError, url: str) -> Exception:
        """Return the error for an HTTP status that is not success."""
        status, host = error.code, urllib.parse.urlsplit(url).netloc
        if status in _MISSING_STATUSES:
            return ModelUnavailableError(f"{host} has no {url}.", IMPORT_HINT, status=status)
        if status == HTTPStatus.UNAUTHORIZED:
            return ModelUnavailableError(
                f"{host} requires a token for {url} (HTTP 401), or there is no such repository.",
                "Set HF_TOKEN to a token with read access.",
                status=status,
            )
        if status == HTTPStatus.FORBIDDEN:
            return ModelUnavailableError(
                f"{host} does not allow the download of {url} (HTTP 403).",
                "Accept the licence on the page of the model, and set HF_TOKEN to your token.",
                status=status,
            )
        message = f"{host} answers with HTTP {status} ({_phrase(status)}) to {url}."
        final = ModelUnavailableError(message, "Try again later.", status=status)
        if status not in _PASSING_STATUSES:
            return final
        return PassingError(
            f"the hub answers with HTTP {status} ({_phrase(status)})",
            _parse_retry_after(error.headers.get("Retry-After")),
            final,
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Report redirects to the caller, which knows where the token may go."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def require_sha256(file: HubFile, info: RepositoryInfo) -> str | None:
    """Return the checksum that the hub states for a file; None if it states none.

    Raises:
        ChecksumError: Its headers and its API state different ones.
    """
    stated = {file.sha256, info.sha256_by_file.get(file.name)} - {None}
    if len(stated) > 1:
        raise ChecksumError(
            f"The hub states two different checksums for {file.name} of {file.repository}.",
            "Try again later, or from another hub.",
        )
    return next(iter(stated), None)


def describe_connection_error(error: object) -> str:
    """Return what happened to a connection, as a clause."""
    if isinstance(error, TimeoutError):
        return "no data for too long"
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return "the connection was lost"
    return f"the connection failed ({str(error)[:80]})"


def _refuse_web_page(response: http.client.HTTPResponse, url: str) -> None:
    if (response.headers.get("Content-Type") or "").lower().startswith("text/html"):
        raise ModelUnavailableError(
            f"{urllib.parse.urlsplit(url).netloc} answers with a web page instead of {url}.",
            "Perhaps a proxy or a network asks you to log in; open the address in a browser.",
        )


def _redirect_target(response: http.client.HTTPResponse, url: str) -> str:
    target = urllib.parse.urljoin(url, response.headers.get("Location") or "")
    if urllib.parse.urlsplit(target).scheme not in ("http", "https") or target == url:
        raise ModelUnavailableError(
            f"The hub redirects {url} to {target[:200]!r}, which is not an address.", IMPORT_HINT
        )
    return target


def _plain_etag(value: str | None) -> str:
    return (value or "").removeprefix("W/").strip('"').lower()


def _quote(part: str) -> str:
    return urllib.parse.quote(part, safe="/")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "unknown status"


def _parse_retry_after(value: str | None) -> float | None:
    """Return the seconds of a header ``Retry-After``, which is a number or a date."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
