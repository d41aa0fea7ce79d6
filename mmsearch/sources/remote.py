"""Source ``remote``: pictures or archives in a store such as S3, or on a web server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, Final

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.sources import Source, SourceFailure, SourceItem, SourcePart
from mmsearch.sources._archives import ARCHIVE_SUFFIXES, ArchiveFile, ArchiveSource
from mmsearch.sources._keys import expand_braces, relative_names
from mmsearch.sources._members import is_hidden
from mmsearch.sources._objects import (
    MISSING,
    FsspecStore,
    Listing,
    ObjectStore,
    WebStore,
)
from mmsearch.storage.stores.remote import WEB_SCHEMES, hide_password

PARALLEL_LOADS: Final = 16
"""Number of objects that are fetched at the same time."""

_PATTERN: Final = (b"*", b"?", b"[")


def build(
    uri: bytes,
    *,
    is_picture: Callable[[bytes, bytes], bool],
    hidden: bool = False,
    endpoint: str | None = None,
    anonymous: bool = False,
    allow_private: bool = False,
    max_mb: float = 256.0,
) -> Source:
    """Build a source of the objects below a URI, or of the archives that a URI names.

    Args:
        uri: URI such as ``s3://bucket/photos/``, ``gs://bucket/{00000..00999}.tar``,
            ``s3://bucket/*.tar`` or ``https://host/photos/``.
        is_picture: Returns True for the name and the first bytes of a picture.
        hidden: Include objects and members whose names begin with a dot.
        endpoint: URL of a server that speaks the protocol of S3; None for that of the environment.
        anonymous: Send no credentials to S3 and Google Cloud Storage.
        allow_private: Fetch from addresses that are not public, too (http and https).
        max_mb: Maximum size of a picture in megabytes.

    Raises:
        SourceError: The URI cannot be opened.
        MissingExtraError: A library is not installed.
    """
    text = os.fsdecode(uri)
    scheme, separator, _ = text.partition("://")
    scheme = scheme.lower()
    if not separator or "\0" in text:
        raise SourceError(
            f"{hide_password(text)!r} is not a URI.", "Give a URI such as s3://bucket/photos/."
        )
    max_bytes = int(max_mb * 1e6)

    def open_store(prefix: bytes) -> ObjectStore:
        prefix_text = os.fsdecode(prefix)
        if scheme in WEB_SCHEMES:
            return WebStore(prefix_text, max_bytes, allow_private=allow_private)
        return FsspecStore(
            prefix_text, max_bytes, _make_options(scheme, endpoint, anonymous=anonymous)
        )

    if not text.lower().endswith(ARCHIVE_SUFFIXES):
        return RemoteSource(uri, open_store(uri), is_picture, hidden=hidden)
    folder, _, base = uri.rpartition(b"/")
    if any(sign in base for sign in _PATTERN):
        store = open_store(folder)
        names = store.match(base)
        if not names:
            raise SourceError(
                f"Nothing matches {hide_password(text)}.", "Check the address and the pattern."
            )
        uris = [folder + b"/" + name for name in names]
    else:
        uris = expand_braces(uri)
        folder = _shared_folder(uris)
        store = open_store(folder)
    files = [
        _make_file(store, member, name, hide_password(os.fsdecode(member_uri)))
        for member_uri, member, name in zip(
            uris, [name[len(folder) + 1 :] for name in uris], relative_names(uris), strict=True
        )
    ]
    return ArchiveSource("remote", uri, files, is_picture, hidden=hidden, on_close=store.close)


def _shared_folder(uris: list[bytes]) -> bytes:
    """Return the folder that all URIs are below; braces may be in any part of them."""
    folder = uris[0].rpartition(b"/")[0]
    while not all(name.startswith(folder + b"/") for name in uris):
        folder = folder.rpartition(b"/")[0]
    return folder


def _make_options(scheme: str, endpoint: str | None, *, anonymous: bool) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if scheme in ("s3", "s3a"):
        options = {"anon": True} if anonymous else {}
        if endpoint:
            options["endpoint_url"] = endpoint
    elif scheme in ("gs", "gcs") and anonymous:
        options["token"] = "anon"  # noqa: S105 - the word for none
    return options


def _make_file(store: ObjectStore, member: bytes, name: bytes, shown: str) -> ArchiveFile:
    def raise_source_error(error: DecodeError) -> SourceError:
        return SourceError(
            f"{shown} cannot be read: {error.message}.",
            "Check the address and the credentials.",
            transient=error.details.get("transient", False),
        )

    def open_file() -> BinaryIO:
        try:
            return store.open(member)
        except DecodeError as error:
            raise raise_source_error(error) from error

    def stamp() -> bytes:
        try:
            return store.info(member).stamp
        except DecodeError as error:
            raise raise_source_error(error) from error

    def size() -> int | None:
        try:
            return store.info(member).size
        except DecodeError:
            return None

    return ArchiveFile(name, shown, open_file, stamp, size)


class RemoteSource:
    """A source whose items are objects below a prefix; see `mmsearch.core.sources.Source`.

    A part is a folder; the key of an item is the name of the object relative to the prefix.

    Args:
        uri: URI of the prefix.
        store: The objects.
        is_picture: Returns True for the name and the first bytes of a picture.
        hidden: Include objects whose names begin with a dot.
    """

    kind = "remote"
    parallel_loads = PARALLEL_LOADS

    def __init__(
        self,
        uri: bytes,
        store: ObjectStore,
        is_picture: Callable[[bytes, bytes], bool],
        *,
        hidden: bool,
    ) -> None:
        self.uri = uri
        self._store = store
        self._is_picture = is_picture
        self._hidden = hidden
        self._last: Listing | None = None

    def parts(self) -> Iterator[SourcePart]:
        """Yield each folder that has objects."""
        for listing in self._store.folders():
            if listing.objects and (self._hidden or not is_hidden(listing.folder)):
                self._last = listing
                yield SourcePart(listing.folder, listing.stamp)

    def items(self, part: SourcePart) -> Iterator[SourceItem | SourceFailure]:
        """Yield the pictures of one folder, by their names."""
        listing = self._last
        if listing is None or listing.folder != part.key:
            try:
                listing = self._store.list_folder(part.key)
            except SourceError as error:
                reason = error.message.rstrip(".")
                yield SourceFailure(part.key, reason, transient=True, ends_part=True)
                return
        for item in listing.objects:
            if self._is_picture(item.name, b"") and (self._hidden or not is_hidden(item.name)):
                load = partial(self._store.read, item.name)
                yield SourceItem(item.name, item.stamp, load, item.size)

    def read(self, key: bytes) -> bytes:
        """Return the content of one object; DecodeError if it cannot be read."""
        return self._store.read(key)

    def exists(self, key: bytes) -> bool | None:
        """Return True if the store has the object; None if it does not answer."""
        try:
            self._store.info(key)
        except DecodeError as error:
            return False if error.message == MISSING else None
        return True

    def close(self) -> None:
        """Free connections."""
        self._store.close()
