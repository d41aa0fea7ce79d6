"""What a decode worker does with one file: read it and prepare it for the encoder."""

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
        path: Absolute.
        size: Bytes when it was hashed.
        mtime_ns: Modification time when it was hashed.
    """

    path: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class DecoderFactory:
    """Makes the decode worker of a process; travels there by pickle."""

    modalities: tuple[Modality, ...]
    prepare: ImagePreprocessor

    def __call__(self) -> Callable[[DecodeTask], tuple[Picture, ModelInput]]:
        """The worker."""
        return self._decode

    def _decode(self, task: DecodeTask) -> tuple[Picture, ModelInput]:
        for modality in self.modalities:
            if modality.can_read(task.path):
                decoded = modality.read(task.path, self.prepare.edge_px)
                _check_unchanged(task)
                return decoded.picture, self.prepare(decoded.pixels)
        raise DecodeError("not a kind of file that is indexed")


def _check_unchanged(task: DecodeTask) -> None:
    """A vector must not be filed under the digest of what the file was before."""
    try:
        current = os.stat(task.path)  # noqa: PTH116 - bytes paths need os
    except OSError:
        raise DecodeError("the file vanished while it was being read", transient=True) from None
    if (current.st_size, clamped_mtime_ns(current)) != (task.size, task.mtime_ns):
        raise DecodeError("the file changed while it was being read", transient=True)
