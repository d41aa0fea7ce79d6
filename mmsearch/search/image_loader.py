"""Reading of pictures outside an indexing run: query pictures, thumbnails and original files.

The pictures were never indexed or may have changed since. They are therefore decoded in a separate
process, as in an indexing run, so that a decoder that crashes or hangs does not affect the caller.

A catalog is untrusted: it can name any file of this machine as a picture. A file is therefore
displayed or served only if it matches the catalog and its content is a picture.
"""

from __future__ import annotations

import operator
import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, ForbiddenError, GoneError, Hint, SourceError
from mmsearch.core.files import (
    choose_modality,
    clamped_mtime_ns,
    hash_source_file,
    special_file_kind,
)
from mmsearch.core.protocols import Executor, ImagePreprocessor, Modality
from mmsearch.core.records import PictureRecord
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import WHOLE, DecodedImage, ItemLocator, ModelInput

MAX_CACHED_DIGESTS = 10_000
"""Maximum number of files whose digests are cached."""

PROGRAM_SUFFIXES = frozenset(
    b"app bat cmd com command cpl desktop exe hta htm html jar js jse lnk msc msi php pif pl ps1"
    b" py rb reg scr sh url vbe vbs wsf wsh xht xhtml xml".split()
)
"""Endings of files that a system or a browser may run when they are opened.

A catalog is untrusted, and a file can be a picture and a program at once.
"""

StatKey = tuple[int, int, int, int, int]
"""Device, inode, size, mtime_ns and ctime_ns of a file. It changes when the content changes."""


class SandboxedImageLoader:
    """Decodes pictures in worker processes. Thread-safe.

    Args:
        find_modalities: Returns all modalities; called for the first picture.
        make_executor: Creates the executor; called for the first picture.
    """

    def __init__(
        self,
        find_modalities: Callable[[], tuple[Modality, ...]],
        make_executor: Callable[[], Executor],
    ) -> None:
        self._find_modalities = find_modalities
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._start_lock = Lock()

    def load(self, path: Path, prepare: ImagePreprocessor) -> ModelInput:
        """Return a query picture, preprocessed for an encoder.

        Raises:
            SourceError: The file cannot be used as a query.
        """
        path_bytes = os.fsencode(path)
        try:
            prepared: ModelInput = self._run_in_worker(
                _PrepareTask(self._find_modality(path_bytes), path_bytes, prepare)
            )
        except DecodeError as error:
            raise SourceError(
                f"{display_path(path)} cannot be used as a query: {error.message}.",
                "Use a picture that can be opened.",
            ) from error
        return prepared

    def thumbnail(
        self, path: bytes, edge_px: int, file_format: str = "JPEG", locator: ItemLocator = WHOLE
    ) -> bytes:
        """Return a thumbnail of an item whose long side is at most ``edge_px`` pixels.

        Raises:
            DecodeError: The file cannot be read.
        """
        task = _ThumbnailTask(self._find_modality(path), path, edge_px, file_format, locator)
        content: bytes = self._run_in_worker(task)
        return content

    def format(self, path: bytes) -> str:
        """Return the format of a file's content, such as ``JPEG``, after decoding its first item.

        Raises:
            DecodeError: The file cannot be read.
        """
        format_name: str = self._run_in_worker(_FormatTask(self._find_modality(path), path))
        return format_name

    def can_read(self, path: bytes) -> bool:
        """Return True if a file has the name of a picture, or the content and no program's name."""
        if any(modality.can_read(path) for modality in self._modalities):
            return True
        _, _, suffix = os.path.basename(path).rpartition(b".")  # noqa: PTH119 - bytes
        if suffix.lower() in PROGRAM_SUFFIXES:
            return False
        return choose_modality(self._modalities, path) is not None

    def close(self) -> None:
        """Stop the worker processes; the next picture starts new ones."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    @cached_property
    def _modalities(self) -> tuple[Modality, ...]:
        return self._find_modalities()

    def _find_modality(self, path: bytes) -> Modality:
        """Return the modality that can read a file; the first one, which refuses it, if none."""
        return choose_modality(self._modalities, path) or self._modalities[0]

    def _run_in_worker(self, task: Callable[[], Any]) -> Any:
        with self._start_lock:
            executor = self._executor = self._executor or self._make_executor()
        ((_, outcome),) = executor.run(_make_worker, [task])
        if isinstance(outcome, TaskFailure):
            raise DecodeError(outcome.reason)
        return outcome


@dataclass(frozen=True)
class _PrepareTask:
    modality: Modality
    path: bytes
    prepare: ImagePreprocessor

    def __call__(self) -> ModelInput:
        return self.prepare(_first_item(self.modality, self.path, self.prepare.edge_px).pixels)


@dataclass(frozen=True)
class _ThumbnailTask:
    modality: Modality
    path: bytes
    edge_px: int
    file_format: str
    locator: ItemLocator

    def __call__(self) -> bytes:
        return self.modality.thumbnail(self.path, self.edge_px, self.file_format, self.locator)


@dataclass(frozen=True)
class _FormatTask:
    modality: Modality
    path: bytes

    def __call__(self) -> str:
        item = next(iter(self.modality.items(self.path, 1)), None)
        if item is None:
            raise DecodeError("there is nothing in it")
        return item.picture.format


def _first_item(modality: Modality, path: bytes, edge_px: int) -> DecodedImage:
    """Return the first item of a file, which stands for the whole.

    Raises:
        DecodeError: The file cannot be read, or has no picture.
    """
    item = next(iter(modality.items(path, edge_px)), None)
    if not isinstance(item, DecodedImage):
        raise DecodeError("there is no picture in it")
    return item


def _make_worker() -> Callable[[Callable[[], Any]], Any]:
    return operator.call


@dataclass(frozen=True)
class _CachedFile:
    stat_key: StatKey
    digest: bytes
    format: str | None = None


class Originals:
    """Finds and verifies the files of pictures. Thread-safe.

    Args:
        image_loader: Decodes the pictures in separate processes.
        follow_links: True to allow files outside the indexed folder, behind a symbolic link.
    """

    def __init__(self, image_loader: SandboxedImageLoader, *, follow_links: bool = False) -> None:
        self._image_loader = image_loader
        self._follow_links = follow_links
        self._cache: OrderedDict[bytes, _CachedFile] = OrderedDict()
        self._lock = Lock()

    def path(self, record: PictureRecord) -> bytes:
        """Return the path of a picture's file after verifying that its content is unchanged.

        If the first file is missing or has changed, its copies are tried.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or is not named like a picture.
        """
        return self._verify(record)[0]

    def path_and_format(self, record: PictureRecord) -> tuple[bytes, str]:
        """Return the path of a picture's file and the format of its content, such as ``JPEG``.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or is not named like a picture.
            DecodeError: The content is not a readable picture.
        """
        path, cached = self._verify(record)
        if cached.format is None:
            try:
                cached = replace(cached, format=self._image_loader.format(path))
            except DecodeError as error:
                raise _unreadable_error(record, error) from error
            self._store(path, cached)
        return path, cached.format or ""

    def thumbnail(self, record: PictureRecord, edge_px: int, file_format: str) -> bytes:
        """Return a thumbnail of a picture; see `SandboxedImageLoader.thumbnail`.

        Raises:
            GoneError: The file is missing or has changed since it was indexed.
            ForbiddenError: The file is outside its folder, or is not named like a picture.
            DecodeError: The content is not a readable picture.
        """
        try:
            if record.uri:
                return self._image_loader.thumbnail(record.thumbnail, edge_px, file_format)
            path = self.path(record)
            return self._image_loader.thumbnail(path, edge_px, file_format, record.locator)
        except DecodeError as error:
            raise _unreadable_error(record, error) from error

    def _verify(self, record: PictureRecord) -> tuple[bytes, _CachedFile]:
        """Return the path of the first file that is unchanged, and what is known about it."""
        if record.uri:
            raise GoneError(
                f"The original of picture {record.id} is in {display_path(record.uri)};"
                " the index keeps a thumbnail of it.",
                "Read it there.",
            )
        try:
            return self._verify_file(record, record.paths[0], record.root, record.mtime_ns)
        except (GoneError, ForbiddenError):
            for path, root in zip(record.paths[1:], record.copy_roots, strict=False):
                with suppress(GoneError, ForbiddenError):
                    return self._verify_file(record, path, root, None)
            raise

    def _verify_file(
        self, record: PictureRecord, path: bytes, root: bytes, mtime_ns: int | None
    ) -> tuple[bytes, _CachedFile]:
        stat_key = _read_stat_key(path)
        if stat_key is None or stat_key[2] != record.size or mtime_ns not in (None, stat_key[3]):
            raise _gone_error(record)
        self._check_location(record, path, root)
        with self._lock:
            cached = self._cache.get(path)
        if cached is None or cached.stat_key != stat_key:
            try:
                cached = _CachedFile(stat_key, hash_source_file(path))
            except DecodeError as error:
                raise _gone_error(record) from error
            if _read_stat_key(path) != stat_key:
                raise _gone_error(record)
            self._store(path, cached)
        if cached.digest != record.digest:
            raise _gone_error(record)
        return path, cached

    def _check_location(self, record: PictureRecord, path: bytes, folder: bytes) -> None:
        if not self._image_loader.can_read(path):
            raise ForbiddenError(f"The file of picture {record.id} is not named like a picture.")
        if self._follow_links:
            return
        root, real_path = os.path.realpath(folder), os.path.realpath(path)
        if os.path.commonpath((root, real_path)) != root:
            raise ForbiddenError(
                f"The file of picture {record.id} is outside its folder, behind a link.",
                Hint(
                    "If you indexed it with {}, set follow_symlinks = true.",
                    "follow_symlinks=True",
                    "--follow-symlinks",
                ),
            )

    def _store(self, path: bytes, cached: _CachedFile) -> None:
        with self._lock:
            self._cache[path] = cached
            self._cache.move_to_end(path)
            if len(self._cache) > MAX_CACHED_DIGESTS:
                self._cache.popitem(last=False)


def _read_stat_key(path: bytes) -> StatKey | None:
    """Return the stat key of a file; None if it is missing or not a regular file."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (OSError, ValueError):
        return None
    if special_file_kind(stat.st_mode) is not None:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, clamped_mtime_ns(stat), stat.st_ctime_ns


def _gone_error(record: PictureRecord) -> GoneError:
    return GoneError(
        f"The file of picture {record.id} is gone or has changed since it was indexed.",
        "Index its folder again.",
    )


def _unreadable_error(record: PictureRecord, error: DecodeError) -> DecodeError:
    return DecodeError(f"Picture {record.id} cannot be read: {error.message}.")
