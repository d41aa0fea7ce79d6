"""Stores of objects: any that fsspec opens, and pages of links on web servers."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

from xxhash import xxh3_128_digest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.plugins import require_packages
from mmsearch.storage.stores.remote import (
    LOCAL_SCHEMES,
    READ_AHEAD_BYTES,
    RemoteFile,
    describe_error,
    hide_password,
    open_file_system,
)

if TYPE_CHECKING:
    from mmsearch.sources._web.reader import WebReader

MAX_DEPTH: Final = 64
"""Maximum depth of folders below a prefix."""

MAX_PAGE_MB: Final = 64.0
"""Maximum size of a page of links, in megabytes."""

MAX_ARCHIVE_MB: Final = 1e6
"""Maximum size of an archive on a web server, in megabytes."""

_ETAGS: Final = ("ETag", "etag", "md5Hash", "content_md5", "checksum", "generation")
_TIMES: Final = ("LastModified", "last_modified", "mtime", "modified", "updated", "created")

MISSING: Final = "the source has no such object"


def digest(text: str) -> bytes:
    """Return a digest of a text as a stamp."""
    return xxh3_128_digest(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class ObjectInfo:
    """An object below a prefix.

    Attributes:
        name: Name relative to the prefix.
        size: Size in bytes; None if the listing does not say it.
        stamp: Changes when the content changes, as far as the listing says it.
    """

    name: bytes
    size: int | None
    stamp: bytes


@dataclass(frozen=True)
class Listing:
    """A folder below a prefix.

    Attributes:
        folder: Name relative to the prefix; b"" for the prefix itself.
        objects: Its objects, sorted by name.
    """

    folder: bytes
    objects: tuple[ObjectInfo, ...]

    @property
    def stamp(self) -> bytes:
        """Digest of names, sizes and stamps; b"" if an object has no stamp."""
        if not all(item.stamp for item in self.objects):
            return b""
        rows = [repr((item.name, item.size, item.stamp)) for item in self.objects]
        return digest("\n".join(rows))


class ObjectStore(Protocol):
    """Objects below a prefix. All methods raise DecodeError for an object that cannot be read."""

    def folders(self) -> Iterator[Listing]:
        """Yield the folders; SourceError if one cannot be listed."""

    def list_folder(self, folder: bytes) -> Listing:
        """Return one folder; SourceError if it cannot be listed."""

    def info(self, name: bytes) -> ObjectInfo:
        """Return the size and stamp of one object."""

    def read(self, name: bytes) -> bytes:
        """Return the content of one object."""

    def open(self, name: bytes) -> BinaryIO:
        """Open one object as a stream, which can seek if the name is that of a zip."""

    def match(self, pattern: bytes) -> list[bytes]:
        """Return the names of the objects that match a pattern with ``*`` and ``?``."""

    def close(self) -> None:
        """Free connections."""


class FsspecStore:
    """Objects of a file system of fsspec below a prefix; see `ObjectStore`.

    Args:
        uri: URI of the prefix.
        max_bytes: Maximum size of an object that is read whole, in bytes.
        options: Options of the file system.

    Raises:
        SourceError: The URI is not one that may be opened.
        MissingExtraError: A library is not installed.
    """

    def __init__(self, uri: str, max_bytes: int, options: Mapping[str, Any]) -> None:
        require_packages("Reading remote sources", "remote", "fsspec")
        scheme = uri.partition("://")[0].lower()
        if scheme in ("s3", "s3a"):
            require_packages("Reading S3", "s3", "s3fs")
        self._shown = hide_password(uri)
        if scheme in LOCAL_SCHEMES or "::" in uri:
            raise SourceError(
                f"{self._shown!r} is not a remote source.",
                "Give the path of a local file or folder.",
            )
        self._max_bytes = max_bytes
        self._fs, self._root = open_file_system(uri, **options)

    def folders(self) -> Iterator[Listing]:
        """Yield the folders in depth-first order."""
        pending: list[tuple[bytes, int]] = [(b"", 0)]
        while pending:
            folder, depth = pending.pop()
            listing, folders = self._list(folder)
            yield listing
            if depth < MAX_DEPTH:
                pending += [(name, depth + 1) for name in sorted(folders, reverse=True)]

    def list_folder(self, folder: bytes) -> Listing:
        """Return one folder."""
        return self._list(folder)[0]

    def info(self, name: bytes) -> ObjectInfo:
        """Return the size and stamp of one object."""
        path = self._path(_check_name(name))
        try:
            entry = self._fs.info(path)
        except Exception as error:
            raise _read_error(error) from error
        if entry.get("type") != "file":
            raise DecodeError(MISSING)
        return _to_info(name, entry)

    def read(self, name: bytes) -> bytes:
        """Return the content of one object."""
        path = self._path(_check_name(name))
        try:
            content: bytes = self._fs.cat_file(path, start=0, end=self._max_bytes + 1)
        except Exception as error:
            raise _read_error(error) from error
        if len(content) > self._max_bytes:
            raise DecodeError(f"it is larger than {self._max_bytes / 1e6:.0f} MB")
        return content

    def open(self, name: bytes) -> BinaryIO:
        """Open one object."""
        path = self._path(_check_name(name))
        try:
            file = self._fs.open(path, "rb", block_size=READ_AHEAD_BYTES, cache_type="readahead")
        except Exception as error:
            raise _read_error(error) from error
        return io.BufferedReader(RemoteFile(file, _as_os_error), READ_AHEAD_BYTES)

    def match(self, pattern: bytes) -> list[bytes]:
        """Return the names of the objects that match a pattern."""
        try:
            found = self._fs.glob(self._path(pattern))
        except Exception as error:
            raise self._cannot_list(error) from error
        names = (self._relative(path) for path in sorted(map(str, found)))
        return [name for name in names if name]

    def close(self) -> None:
        """Do nothing: file systems close their connections themselves."""

    def _path(self, name: bytes) -> str:
        text = name.decode("utf-8", "surrogateescape")
        return f"{self._root}/{text}" if text else self._root

    def _relative(self, path: str) -> bytes | None:
        prefix = self._root + "/"
        if not path.startswith(prefix):
            return None
        return path[len(prefix) :].strip("/").encode("utf-8", "surrogateescape")

    def _list(self, folder: bytes) -> tuple[Listing, list[bytes]]:
        try:
            entries = self._fs.ls(self._path(folder), detail=True)
        except Exception as error:
            raise self._cannot_list(error) from error
        objects, folders = [], []
        for entry in entries:
            name = self._relative(str(entry["name"]))
            if not name or name == folder:
                continue
            if entry.get("type") == "directory":
                folders.append(name)
            elif entry.get("type") == "file":
                objects.append(_to_info(name, entry))
        return Listing(folder, tuple(sorted(objects, key=lambda item: item.name))), folders

    def _cannot_list(self, error: Exception) -> SourceError:
        reason = (
            "there is nothing" if isinstance(error, FileNotFoundError) else describe_error(error)
        )
        return SourceError(
            f"{self._shown} cannot be listed: {reason}.",
            "Check the address, the network and the credentials.",
        )


def _to_info(name: bytes, entry: Mapping[str, Any]) -> ObjectInfo:
    size = entry.get("size")
    version = [entry[key] for key in _ETAGS if entry.get(key) is not None][:1]
    version += [entry[key] for key in _TIMES if entry.get(key) is not None][:1]
    stamp = digest(repr([size, *map(str, version)])) if version else b""
    return ObjectInfo(name, size if isinstance(size, int) else None, stamp)


def _check_name(name: bytes) -> bytes:
    """Return the name of an object; DecodeError if it is not one below the prefix."""
    parts = name.split(b"/")
    if b"" in parts or b"." in parts or b".." in parts or b"\0" in name:
        raise DecodeError(MISSING)
    return name


def _web_error(error: DecodeError) -> DecodeError:
    return DecodeError(MISSING) if error.details.get("status") in (404, 410) else error


def _as_os_error(error: Exception) -> OSError:
    return OSError(describe_error(error))


def _read_error(error: Exception) -> DecodeError:
    if isinstance(error, DecodeError):
        return error
    if isinstance(error, FileNotFoundError):
        return DecodeError(MISSING)
    if isinstance(error, PermissionError):
        return DecodeError(f"access is denied: {describe_error(error)}")
    return DecodeError(describe_error(error), transient=True)


class WebStore:
    """Objects that pages of a web server link to, below a prefix; see `ObjectStore`.

    Links to other servers, and to pages above the prefix, are not followed. What a page says beside
    a link, such as a date, is the stamp of the object.

    Args:
        uri: URL of the prefix.
        max_bytes: Maximum size of an object that is read whole, in bytes.
        allow_private: Allow addresses that are not public, and all ports.
    """

    def __init__(self, uri: str, max_bytes: int, *, allow_private: bool) -> None:
        require_packages("Fetching pictures", "urls", "httpcore2")
        self._root = uri if uri.endswith("/") else uri + "/"
        self._allow_private = allow_private
        self._web = self._make_reader(max_bytes / 1e6, accept="*/*")
        self._pages = self._make_reader(MAX_PAGE_MB, accept="text/html")

    def _make_reader(self, limit_mb: float, **options: Any) -> WebReader:
        from mmsearch.sources._web.reader import WebReader  # noqa: PLC0415 - an extra

        return WebReader(limit_mb, allow_private=self._allow_private, **options)

    def folders(self) -> Iterator[Listing]:
        """Yield the pages in depth-first order, each once."""
        pending: list[tuple[bytes, int]] = [(b"", 0)]
        seen = {b""}
        while pending:
            folder, depth = pending.pop()
            listing, folders = self._list(folder)
            yield listing
            if depth < MAX_DEPTH:
                fresh = sorted(set(folders) - seen, reverse=True)
                seen.update(fresh)
                pending += [(name, depth + 1) for name in fresh]

    def list_folder(self, folder: bytes) -> Listing:
        """Return one page."""
        return self._list(folder)[0]

    def info(self, name: bytes) -> ObjectInfo:
        """Return the size and stamp that the server says about one object."""
        try:
            headers = self._web.read_headers(self._url(_check_name(name)))
        except DecodeError as error:
            if error.details.get("status") not in (405, 501):
                raise _web_error(error) from error
            # The server answers no questions about its files.
            return ObjectInfo(name, None, b"")
        version = [headers[key] for key in (b"etag", b"last-modified") if key in headers]
        size = headers.get(b"content-length", b"")
        stamp = digest(repr([size, *version])) if version else b""
        return ObjectInfo(name, int(size) if size.isdigit() else None, stamp)

    def read(self, name: bytes) -> bytes:
        """Return the content of one object."""
        try:
            return self._web.read(self._url(_check_name(name)))
        except DecodeError as error:
            raise _web_error(error) from error

    def open(self, name: bytes) -> BinaryIO:
        """Open one object as a stream; a zip is fetched to a temporary file first."""
        reader = self._make_reader(MAX_ARCHIVE_MB, deadline_s=None, tries=1, accept="*/*")
        stream = reader.open(self._url(_check_name(name)))
        if not name.lower().endswith(b".zip"):
            return stream
        file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            with stream:
                shutil.copyfileobj(stream, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def match(self, pattern: bytes) -> list[bytes]:
        """Raise SourceError: web servers have no patterns."""
        raise SourceError(
            f"{hide_password(self._root)} is on a web server, which knows no patterns.",
            "Give the names, as in {00000..00099}.tar.",
        )

    def close(self) -> None:
        """End the fetches."""
        for reader in (self._web, self._pages):
            reader.close()

    def _url(self, name: bytes) -> str:
        return self._root + quote(name)

    def _list(self, folder: bytes) -> tuple[Listing, list[bytes]]:
        url = self._url(folder + b"/" if folder else b"")
        try:
            page = self._pages.read(url)
        except DecodeError as error:
            raise SourceError(
                f"{hide_password(url)} cannot be listed: {error.message}.",
                "Check the address.",
            ) from error
        parser = _LinkParser()
        with suppress(AssertionError):
            # The parser asserts that some damaged declarations do not occur.
            parser.feed(page.decode("utf-8", "replace"))
            parser.close()
        objects: dict[bytes, ObjectInfo] = {}
        folders: list[bytes] = []
        for link, text in parser.links:
            name = self._relative(url, link)
            if name is None or name == folder:
                continue
            if link.partition("?")[0].partition("#")[0].endswith("/"):
                folders.append(name)
            else:
                stamp = digest(text)
                objects.setdefault(name, ObjectInfo(name, None, stamp))
        return Listing(folder, tuple(objects[name] for name in sorted(objects))), folders

    def _relative(self, page_url: str, link: str) -> bytes | None:
        """Return the name of a link's target; None if it is not below the page."""
        try:
            target = urlsplit(urljoin(page_url, link))
            page = urlsplit(page_url)
            root = urlsplit(self._root)
        except ValueError:
            return None
        if (target.scheme, target.netloc) != (page.scheme, page.netloc) or target.query:
            return None
        path, page_path, root_path = (unquote_to_bytes(part.path) for part in (target, page, root))
        if not path.startswith(page_path) or path == page_path or b".." in path.split(b"/"):
            return None
        return path[len(root_path) :].strip(b"/") or None


class _LinkParser(HTMLParser):
    """Parser of a page of links.

    Attributes:
        links: The target of each link and the text after it, up to the next one.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[tuple[str, str]] = []
        self._target: str | None = None
        self._text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a link."""
        if tag == "a" and (target := dict(attrs).get("href")):
            self._end_link()
            self._target = target

    def handle_data(self, data: str) -> None:
        """Collect the text of and after a link."""
        self._text.append(data)

    def close(self) -> None:
        """End the last link."""
        super().close()
        self._end_link()

    def _end_link(self) -> None:
        if self._target is not None:
            self.links.append((self._target, " ".join("".join(self._text).split())))
        self._target, self._text = None, []
