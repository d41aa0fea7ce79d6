"""Cache on disk for vectors that every query needs and that depend only on the encoder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.files import create_file, create_folder
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import InputKind

_DIGEST_BYTES = hashlib.sha256().digest_size


class VectorCache:
    """A folder of small files, each named by a hash of its vector's inputs.

    The folder only saves time: a vector whose file is damaged or cannot be written is computed
    again.

    Args:
        folder: Folder of the cache; created on the first write.
        encoder: Encoder that the vectors come from.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self._folder = folder
        self._encoder = encoder
        self._loaded: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def get(
        self, texts: Sequence[str], compute: Callable[[Sequence[str]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Return the float32 (dim,) result of ``compute(texts)``, from the cache if possible."""
        key = tuple(texts)
        if key not in self._loaded:
            path = self._folder / self._file_name(texts)
            vector = self._read(path)
            if vector is None:
                vector = np.ascontiguousarray(compute(texts), dtype="<f4")
                self._write(path, vector.tobytes())
            self._loaded[key] = vector
        return self._loaded[key]

    def _file_name(self, texts: Sequence[str]) -> str:
        # The device is part of the key: int8 gives slightly different vectors for the same model.
        key_parts = [self._encoder.spec.fingerprint, self._encoder.device(InputKind.TEXT), *texts]
        return hashlib.sha256(json.dumps(key_parts).encode()).hexdigest()[:32]

    def _read(self, path: Path) -> NDArray[np.float32] | None:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        is_intact = (
            len(body) == 4 * self._encoder.spec.dim and hashlib.sha256(body).digest() == digest
        )
        return np.frombuffer(body, dtype="<f4") if is_intact else None

    @staticmethod
    def _write(path: Path, body: bytes) -> None:
        temporary_path = path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):
            create_folder(path.parent)
            with create_file(temporary_path) as file:
                file.write(hashlib.sha256(body).digest() + body)
            temporary_path.replace(path)
