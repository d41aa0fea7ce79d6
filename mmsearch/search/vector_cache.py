"""Vectors that every query needs and that depend on the encoder alone, kept between processes."""

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
from mmsearch.core.types import Kind

_SUM_BYTES = hashlib.sha256().digest_size


class KeptVectors:
    """A folder of small files, each named after what its vector was made of.

    What is damaged or cannot be written is made again: the folder only saves time.

    Args:
        folder: Made when it is first needed.
        encoder: Whose vectors they are.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        self._folder = folder
        self._encoder = encoder
        self._read_before: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def get(
        self, texts: Sequence[str], make: Callable[[Sequence[str]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """float32 (dim,): what ``make`` makes of the texts, or has made of them before."""
        key = tuple(texts)
        if key not in self._read_before:
            path = self._folder / self._name(texts)
            vector = self._read(path)
            if vector is None:
                vector = np.ascontiguousarray(make(texts), dtype="<f4")
                self._write(path, vector.tobytes())
            self._read_before[key] = vector
        return self._read_before[key]

    def _name(self, texts: Sequence[str]) -> str:
        # In int8 the same model has slightly other vectors.
        made_of = [self._encoder.spec.fingerprint, self._encoder.device(Kind.TEXT), *texts]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]

    def _read(self, path: Path) -> NDArray[np.float32] | None:
        try:
            content = path.read_bytes()
        except OSError:
            return None
        total, body = content[:_SUM_BYTES], content[_SUM_BYTES:]
        whole = len(body) == 4 * self._encoder.spec.dim and hashlib.sha256(body).digest() == total
        return np.frombuffer(body, dtype="<f4") if whole else None

    @staticmethod
    def _write(path: Path, body: bytes) -> None:
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with suppress(OSError):
            create_folder(path.parent)
            with create_file(temporary) as file:
                file.write(hashlib.sha256(body).digest() + body)
            temporary.replace(path)
