"""Sources made of archives (zip, tar, samples of webdataset), wherever their files lie."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final

from xxhash import xxh3_64_digest

from mmsearch.core.errors import DecodeError, MissingExtraError, SourceError
from mmsearch.core.sources import SourceFailure, SourceItem, SourcePart
from mmsearch.core.types import Text
from mmsearch.sources._beside import TableBeside
from mmsearch.sources._keys import SeenKeys
from mmsearch.sources._members import (
    BASE_MAX_BYTES,
    MAX_GROWTH_RATIO,
    MISSING,
    SAME_NAME,
    SIDECAR_SUFFIXES,
    TAR_ERRORS,
    ZIP_ERRORS,
    IsPicture,
    LimitError,
    bomb_error,
    failure_reason,
    is_hidden,
    is_sidecar,
    is_transient,
    make_item,
    parse_sidecar,
    sample_key,
    stems,
    without_suffix,
)
from mmsearch.sources._tar import TarIndex, TarReader
from mmsearch.sources._zip import ZipReader

MAX_SAMPLE_PICTURES: Final = 16
"""Maximum number of pictures of one sample that share its texts."""

MAX_SAMPLE_BYTES: Final = 1 << 26
"""Size of a sample from which its pictures do not wait for its end, in bytes."""

_AGAIN: Final = b" (again)"
_ZIP_SUFFIXES: Final = (".zip", ".cbz")

ARCHIVE_SUFFIXES: Final = (
    *_ZIP_SUFFIXES,
    *(".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"),
)
"""Suffixes of the names of archives, in lower case."""


@dataclass(frozen=True)
class ArchiveFile:
    """A file that is an archive.

    Attributes:
        name: Name in its source; b"" if it is the only one.
        shown: Name for messages.
        open: Opens the file for reading; a zip needs a file that can seek. SourceError if it fails.
        stamp: Returns a value that changes with the content; b"" if it is not known. SourceError if
            the file cannot be found.
        size: Returns the size in bytes; None if it is not known.
        table: Table beside it with rows for its samples; see `mmsearch.sources._beside`.
    """

    name: bytes
    shown: str
    open: Callable[[], BinaryIO]
    stamp: Callable[[], bytes]
    size: Callable[[], int | None]
    table: Path | None = None

    @property
    def is_zip(self) -> bool:
        """True if the name is that of a zip."""
        return self.shown.lower().endswith(_ZIP_SUFFIXES)


@dataclass
class _Sample:
    """Consecutive members of a tar with one name before the first dot."""

    key: bytes = b""
    pictures: list[tuple[bytes, bytes]] = field(default_factory=list)
    sidecars: list[tuple[bytes, bytes]] = field(default_factory=list)
    size: int = 0

    def add(self, member: bytes, content: bytes) -> None:
        """Add a member."""
        (self.sidecars if is_sidecar(member) else self.pictures).append((member, content))
        self.size += len(content)

    @property
    def is_full(self) -> bool:
        """True if its pictures should not wait for more texts."""
        return len(self.pictures) >= MAX_SAMPLE_PICTURES or self.size > MAX_SAMPLE_BYTES


class ArchiveSource:
    """A source whose parts are archives; see `mmsearch.core.sources.Source`.

    The key of an item is the path of the member, after the name of the archive and a slash if the
    source has several archives.

    Args:
        kind: Name of the plugin.
        uri: URI of the source, or its absolute path.
        files: The archives.
        is_picture: Returns True for the name and the first bytes of a picture.
        hidden: Include members whose names begin with a dot.
        on_close: Called when the source is closed.
    """

    parallel_loads = 1

    def __init__(
        self,
        kind: str,
        uri: bytes,
        files: Sequence[ArchiveFile],
        is_picture: IsPicture,
        *,
        hidden: bool = False,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.kind = kind
        self.uri = uri
        self._files = {file.name: file for file in files}
        self._is_picture = is_picture
        self._hidden = hidden
        self._on_close = on_close
        self._lock = threading.Lock()
        self._last_zip: tuple[bytes, bytes, ZipReader] | None = None
        self._last_tar: tuple[bytes, bytes, TarIndex | None] | None = None

    def parts(self) -> Iterator[SourcePart]:
        """Yield each archive."""
        for file in self._files.values():
            yield SourcePart(file.name, file.stamp())

    def items(self, part: SourcePart) -> Iterator[SourceItem | SourceFailure]:
        """Yield the pictures of one archive with the texts beside them."""
        file = self._files[part.key]
        seen = SeenKeys()
        try:
            for item in self._iter_zip(file) if file.is_zip else self._iter_tar(file):
                if isinstance(item, SourceItem) and not seen.add(item.key):
                    yield SourceFailure(item.key + _AGAIN, SAME_NAME)
                else:
                    yield item
        except (SourceError, LimitError, *ZIP_ERRORS) as error:
            yield SourceFailure(
                file.name,
                failure_reason(error),
                transient=is_transient(error),
                ends_part=True,
            )

    def read(self, key: bytes) -> bytes:
        """Return the content of a member; DecodeError if it cannot be read."""
        file, name = self._split_key(key)
        try:
            if file.is_zip:
                return self._zip(file).read(name)
            index = self._tar(file)
            with file.open() as raw:
                if index is not None:
                    return index.read(raw, name)
                for member, content in TarReader(raw, lambda name, head: False, name):
                    if member == name:
                        if isinstance(content, bytes):
                            return content
                        raise DecodeError(content)
        except (SourceError, LimitError, *ZIP_ERRORS) as error:
            raise DecodeError(failure_reason(error), transient=is_transient(error)) from error
        raise DecodeError(MISSING)

    def exists(self, key: bytes) -> bool | None:
        """Return True if the archive has the member; None if it cannot be read."""
        try:
            file, name = self._split_key(key)
            if file.is_zip:
                return name in self._zip(file).members
            index = self._tar(file)
            if index is not None:
                return isinstance(index.members.get(name), tuple)
            self.read(key)
        except DecodeError as error:
            return False if error.message == MISSING else None
        except (SourceError, LimitError, *ZIP_ERRORS):
            return None
        return True

    def close(self) -> None:
        """Close the archive that was read last."""
        with self._lock:
            self._last_zip = None
        self._on_close()

    def _split_key(self, key: bytes) -> tuple[ArchiveFile, bytes]:
        if b"" in self._files:
            return self._files[b""], key
        name = key
        while slash := name.rfind(b"/") + 1:
            name = name[: slash - 1]
            if name in self._files:
                return self._files[name], key[slash:]
        raise DecodeError(MISSING)

    def _key(self, file: ArchiveFile, member: bytes) -> bytes:
        return file.name + b"/" + member if file.name else member

    def _is_wanted(self, name: bytes, head: bytes) -> bool:
        if not self._hidden and is_hidden(name):
            return False
        return is_sidecar(name) or self._is_picture(name, head)

    # --- tar ---

    def _iter_tar(self, file: ArchiveFile) -> Iterator[SourceItem | SourceFailure]:
        table = None
        if file.table is not None:
            try:
                table = TableBeside(file.table)
            except (SourceError, MissingExtraError) as error:
                name = os.fsencode(file.table.name)
                key = file.name.rpartition(b"/")[0] + b"/" + name if b"/" in file.name else name
                yield SourceFailure(key, failure_reason(error), transient=True)
        try:
            yield from self._iter_samples(file, table)
        finally:
            if table is not None:
                table.close()

    def _iter_samples(
        self, file: ArchiveFile, table: TableBeside | None
    ) -> Iterator[SourceItem | SourceFailure]:
        sample = _Sample()
        try:
            with file.open() as raw:
                for member, content in TarReader(raw, self._is_wanted):
                    if isinstance(content, str):
                        yield SourceFailure(self._key(file, member), content)
                        continue
                    key = sample_key(member)
                    if key != sample.key or sample.is_full:
                        yield from self._flush(file, sample, table)
                        sample = _Sample(key)
                    sample.add(member, content)
        except (SourceError, LimitError, *TAR_ERRORS):
            # What came before the damage counts.
            yield from self._flush(file, sample, table)
            raise
        yield from self._flush(file, sample, table)

    def _flush(
        self, file: ArchiveFile, sample: _Sample, table: TableBeside | None
    ) -> Iterator[SourceItem | SourceFailure]:
        if not sample.pictures:
            return
        sidecars: dict[bytes, list[tuple[tuple[Text, ...], dict[str, Any]]]] = {}
        for name, content in sample.sidecars:
            try:
                parsed = parse_sidecar(name, content)
            except ValueError as error:
                yield SourceFailure(self._key(file, name), str(error))
            else:
                sidecars.setdefault(without_suffix(name), []).append(parsed)
        for name, content in sample.pictures:
            beside = [parsed for stem in stems(name) for parsed in sidecars.get(stem, ())]
            row = None if table is None else table.find(sample.key)
            if row is not None:
                # What the tar itself says counts more.
                has_texts = any(texts for texts, _ in beside)
                beside.append(((), row[1]) if has_texts else row)
            load = partial(bytes, content)
            key = self._key(file, name)
            yield make_item(key, xxh3_64_digest(content), load, len(content), beside)

    def _tar(self, file: ArchiveFile) -> TarIndex | None:
        """Return the index of a tar for single reads; the last one is kept until it changes."""
        stamp = file.stamp()
        with self._lock:
            if not stamp:
                return None
            if self._last_tar is None or self._last_tar[:2] != (file.name, stamp):
                with file.open() as raw:
                    self._last_tar = (file.name, stamp, TarIndex.build(raw))
            return self._last_tar[2]

    # --- zip ---

    def _zip(self, file: ArchiveFile) -> ZipReader:
        """Return an archive for single reads; the last one is kept until it changes."""
        stamp = file.stamp()
        with self._lock:
            if self._last_zip is None or self._last_zip[:2] != (file.name, stamp):
                self._last_zip = (file.name, stamp, ZipReader(file.open()))
            return self._last_zip[2]

    def _iter_zip(self, file: ArchiveFile) -> Iterator[SourceItem | SourceFailure]:
        archive = ZipReader(file.open())
        for name, reason in archive.refused:
            if self._is_wanted(name, b""):
                key = self._key(file, name)
                yield SourceFailure(key + _AGAIN if reason == SAME_NAME else key, reason)
        budget = BASE_MAX_BYTES + MAX_GROWTH_RATIO * (file.size() or 0)
        for name, member in archive.members.items():
            if is_sidecar(name) or (not self._hidden and is_hidden(name)):
                continue
            yield from self._iter_member(file, archive, name)
            budget -= member.file_size
            if budget < 0:
                raise bomb_error()

    def _iter_member(
        self, file: ArchiveFile, archive: ZipReader, name: bytes
    ) -> Iterator[SourceItem | SourceFailure]:
        member = archive.members[name]
        key = self._key(file, name)
        stamp = member.CRC.to_bytes(4, "big") + member.file_size.to_bytes(8, "big")
        try:
            if not self._is_picture(name, archive.read_head(name)):
                return
        except DecodeError as error:
            if self._is_picture(name, b""):
                yield SourceFailure(key, error.message, stamp)
            return
        beside = []
        for stem in stems(name):
            for suffix in SIDECAR_SUFFIXES:
                sidecar = stem + b"." + suffix
                if sidecar in archive.members:
                    try:
                        beside.append(parse_sidecar(sidecar, archive.read(sidecar)))
                    except (ValueError, DecodeError) as error:
                        yield SourceFailure(self._key(file, sidecar), failure_reason(error))
        load = partial(archive.read, name)
        yield make_item(key, stamp, load, member.file_size, beside)
