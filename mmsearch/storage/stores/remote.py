"""Store of immutable files in a file system of fsspec, such as S3, below a prefix.

A file is written to a temporary file of this machine first, and then sent whole: a store of objects
shows it when all of it is there. Other stores get it under a temporary name, which is renamed.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, Final

from mmsearch.core.errors import DamagedFileError, SourceError, StateError
from mmsearch.core.plugins import require_packages
from mmsearch.storage.atomic import TEMPORARY_SUFFIX, AtomicFile
from mmsearch.storage.stores.local import check_name

LOCAL_SCHEMES: Final = frozenset({"file", "local", "dir", "reference", "data"})
"""Schemes of fsspec for what is on this machine, or named by content."""

WEB_SCHEMES: Final = frozenset({"http", "https"})

READ_AHEAD_BYTES: Final = 1 << 22
"""Size of the blocks in which files are read, in bytes."""

_WHOLE_OBJECT_SCHEMES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "memory"}
)
"""Schemes of stores that show an object when all of it is there."""

_USER: Final = re.compile(r"://[^/@\s]*@")
_QUOTED_USER: Final = re.compile(r"[^\s/\"'@(]+@")
"""A user of a URI whose beginning is cut off, as libraries quote it."""

_QUERY: Final = re.compile(r"(://[^\s?]*)\?\S*?([\"']?)(?=\s|$)")

_NEXT_STEP: Final = "Check the address, the network and the credentials."


def hide_password(text: str) -> str:
    """Return a URI, or a text with URIs, for messages: without user names and passwords."""
    return _USER.sub("://", text)


def describe_error(error: BaseException) -> str:
    """Return the reason of a failed request as a clause on one line, without passwords."""
    text = _QUERY.sub(r"\1\2", hide_password(" ".join(str(error).split())))
    return _QUOTED_USER.sub("", text)[:200].rstrip(".") or type(error).__name__


def open_file_system(uri: str, **options: Any) -> tuple[Any, str]:
    """Return a file system of fsspec and the path in it that a URI names.

    Args:
        uri: The URI.
        **options: Options of the file system.

    Raises:
        SourceError: A package for its scheme is not installed, or it cannot be opened.
    """
    from fsspec.core import url_to_fs  # noqa: PLC0415 - an extra

    scheme = uri.partition("://")[0].lower()
    try:
        file_system, root = url_to_fs(
            uri, skip_instance_cache=True, use_listings_cache=False, **options
        )
    except ImportError as error:
        raise SourceError(
            f"URIs of the scheme {scheme!r} need a Python package that is not installed.",
            f"{describe_error(error)}.",
        ) from error
    except Exception as error:
        raise SourceError(
            f"{hide_password(uri)} cannot be opened: {describe_error(error)}.", _NEXT_STEP
        ) from error
    return file_system, str(root).rstrip("/")


class RemoteFile(io.RawIOBase):
    """A file of fsspec with errors of one kind, whatever its library raises.

    Args:
        file: The file.
        make_error: Returns the error to raise in place of one that reading raised.
    """

    def __init__(self, file: Any, make_error: Callable[[Exception], Exception]) -> None:
        self._file = file
        self._make_error = make_error

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer and return their number."""
        try:
            chunk = self._file.read(len(buffer))
        except Exception as error:
            raise self._make_error(error) from error
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position and return it."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the position."""
        return int(self._file.tell())

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


class RemoteStore:
    """Files of a file system of fsspec below a prefix, as a `Store`.

    Args:
        uri: URI of the prefix, such as ``s3://bucket/backups/photos``.

    Raises:
        SourceError: The URI is not one that can be written, or it cannot be opened.
        MissingExtraError: fsspec is not installed.
    """

    def __init__(self, uri: str) -> None:
        scheme = uri.partition("://")[0].lower()
        self.name = hide_password(uri)
        if scheme in LOCAL_SCHEMES | WEB_SCHEMES or "::" in uri or "\0" in uri:
            raise SourceError(
                f"{self.name!r} is not a store that can be written.",
                "Give a folder, or a URI such as s3://bucket/folder.",
            )
        require_packages("Files in remote stores", "remote", "fsspec")
        self._is_atomic = scheme in _WHOLE_OBJECT_SCHEMES
        self._fs, self._root = open_file_system(uri)
        if not self._root.strip("/") and scheme != "memory":
            raise SourceError(f"{self.name!r} names no bucket or folder.", "Give one.")

    @property
    def library(self) -> str:
        """Name and version of the package that opens the store."""
        package = type(self._fs).__module__.partition(".")[0]
        return f"{package} {version(package)}"

    @property
    def temporary_folder(self) -> Path:
        """The folder of temporary files of this machine."""
        return Path(tempfile.gettempdir())

    @contextmanager
    def put(self, name: str) -> Iterator[AtomicFile]:
        """Write a file; it is sent when the context ends.

        Raises:
            StateError: It cannot be sent.
        """
        path = self._path(name)
        with tempfile.NamedTemporaryFile(prefix="mmsearch-") as file:
            written = AtomicFile(Path(file.name), file, name)  # type: ignore[arg-type]
            yield written
            file.flush()
            self._send(file.name, path)

    def send(self, local_path: Path, name: str) -> None:
        """Copy a file of this machine.

        Raises:
            StateError: It cannot be sent.
        """
        self._send(os.fspath(local_path), self._path(name))

    def get(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            DamagedFileError: There is no such file.
            SourceError: It cannot be read.
        """
        path = self._path(name)
        try:
            file = self._fs.open(path, "rb", block_size=READ_AHEAD_BYTES, cache_type="readahead")
        except FileNotFoundError:
            raise DamagedFileError(f"{self.name}/{name} is missing.", missing=True) from None
        except Exception as error:
            raise self._read_error(error) from error
        return io.BufferedReader(RemoteFile(file, self._read_error), READ_AHEAD_BYTES)

    def list(self) -> dict[str, int]:
        """Return the sizes of the files by name.

        Raises:
            SourceError: The prefix cannot be listed.
        """
        try:
            found = self._fs.find(self._root, detail=True)
        except FileNotFoundError:
            return {}
        except Exception as error:
            raise self._read_error(error) from error
        prefix = f"{self._root}/"
        sizes = {
            str(path).removeprefix(prefix): int(entry.get("size") or 0)
            for path, entry in found.items()
            if str(path).startswith(prefix) and entry.get("type") == "file"
        }
        # Some stores have an empty object for a folder.
        return {
            name: size
            for name, size in sizes.items()
            if name and not name.endswith((TEMPORARY_SUFFIX, "/"))
        }

    def remove(self, name: str) -> None:
        """Remove a file.

        Raises:
            StateError: It cannot be removed.
        """
        path = self._path(name)

        def remove_file() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(path)

        self._write(remove_file)

    def _read_error(self, error: BaseException) -> SourceError:
        if isinstance(error, FileNotFoundError):
            reason = "there is nothing"
        elif isinstance(error, PermissionError):
            reason = f"access is denied: {describe_error(error)}"
        else:
            reason = describe_error(error)
        return SourceError(f"{self.name} cannot be read: {reason}.", _NEXT_STEP)

    def _send(self, local_path: str, path: str) -> None:
        if self._is_atomic:
            self._write(lambda: self._fs.put_file(local_path, path))
            return
        temporary_path = path + TEMPORARY_SUFFIX

        def send_and_rename() -> None:
            self._fs.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH120 - not local
            self._fs.put_file(local_path, temporary_path)
            self._fs.mv(temporary_path, path)

        self._write(send_and_rename)

    def _write(self, request: Callable[[], None]) -> None:
        try:
            request()
        except FileNotFoundError as error:
            raise StateError(
                f"{self.name} cannot be written: there is no such bucket or folder.", _NEXT_STEP
            ) from error
        except PermissionError as error:
            raise StateError(
                f"{self.name} cannot be written: access is denied: {describe_error(error)}.",
                _NEXT_STEP,
            ) from error
        except Exception as error:
            raise StateError(
                f"{self.name} cannot be written: {describe_error(error)}.", _NEXT_STEP
            ) from error

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name)}"
