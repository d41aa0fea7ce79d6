"""Decoding of pictures outside an indexing run: query pictures and thumbnails.

The pictures were never indexed or may have changed since. They are therefore decoded in a separate
process, as in an indexing run, so that a decoder that crashes or hangs does not affect the caller.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.protocols import Executor, ImagePreprocessor, Modality
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import ModelInput


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
                f"{display_path(path)} cannot be used as a query: {error.message}."
            ) from error
        return prepared

    def thumbnail(self, path: bytes, edge_px: int, file_format: str = "JPEG") -> bytes:
        """Return a thumbnail of a picture whose long side is at most ``edge_px`` pixels.

        Raises:
            DecodeError: The file cannot be read.
        """
        task = _ThumbnailTask(self._find_modality(path), path, edge_px, file_format)
        content: bytes = self._run_in_worker(task)
        return content

    def format(self, path: bytes) -> str:
        """Return the format of a picture's content, such as ``JPEG``, after decoding all of it.

        Raises:
            DecodeError: The file cannot be read.
        """
        format_name: str = self._run_in_worker(_FormatTask(self._find_modality(path), path))
        return format_name

    def can_read(self, path: bytes) -> bool:
        """Return True if the name of a file is that of a picture."""
        return any(modality.can_read(path) for modality in self._modalities)

    def close(self) -> None:
        """Stop the worker processes; the next picture starts new ones."""
        if self._executor is not None:
            self._executor.close()
            self._executor = None

    @cached_property
    def _modalities(self) -> tuple[Modality, ...]:
        return self._find_modalities()

    def _find_modality(self, path: bytes) -> Modality:
        """Return the modality that can read a file, by its name; the first one if none matches."""
        return next(
            (modality for modality in self._modalities if modality.can_read(path)),
            self._modalities[0],
        )

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
        return self.prepare(self.modality.read(self.path, self.prepare.edge_px).pixels)


@dataclass(frozen=True)
class _ThumbnailTask:
    modality: Modality
    path: bytes
    edge_px: int
    file_format: str

    def __call__(self) -> bytes:
        return self.modality.thumbnail(self.path, self.edge_px, self.file_format)


@dataclass(frozen=True)
class _FormatTask:
    modality: Modality
    path: bytes

    def __call__(self) -> str:
        return self.modality.read(self.path, 1).picture.format


def _make_worker() -> Callable[[Callable[[], Any]], Any]:
    return operator.call
