"""Decode worker: reads one file and prepares its picture for the encoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import clamped_mtime_ns
from mmsearch.core.protocols import ImagePreprocessor, Modality
from mmsearch.core.types import ModelInput, Picture


@dataclass(frozen=True)
class DecodeTask:
    """One file whose content was hashed.

    Attributes:
        path: Absolute path.
        size: Size in bytes when it was hashed.
        mtime_ns: Modification time when it was hashed.
    """

    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class DecoderFactory:
    """Factory for the decode worker of a process; it is pickled to get there."""

    modalities: tuple[Modality, ...]
    prepare: ImagePreprocessor

    def __call__(self) -> Callable[[DecodeTask], tuple[Picture, ModelInput]]:
        """Return the worker."""
        return self._decode

    def _decode(self, task: DecodeTask) -> tuple[Picture, ModelInput]:
        for modality in self.modalities:
            if modality.can_read(task.path):
                decoded = modality.read(task.path, self.prepare.edge_px)
                _check_unchanged(task)
                return decoded.picture, self.prepare(decoded.pixels)
        raise DecodeError("this type of file is not indexed")


def _check_unchanged(task: DecodeTask) -> None:
    """Raise if the file has changed since it was hashed.

    Otherwise its vector would be stored under the digest of the old content.
    """
    try:
        current = os.stat(task.path)  # noqa: PTH116 - bytes paths need os
    except OSError:
        raise DecodeError("the file vanished while it was being read", transient=True) from None
    if (current.st_size, clamped_mtime_ns(current)) != (task.size, task.mtime_ns):
        raise DecodeError("the file changed while it was being read", transient=True)
