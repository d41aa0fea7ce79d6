"""Vectors on which a text-to-image index can fail: queries lie where no picture does.

A picture and a text are a *meaning*, which both share, *detail*, which only their own kind has, and
an offset of the kind: the modality gap of CLIP's space. Detail is most of a picture's length and
none of a text's business, so what is near among pictures says little about what answers a text.
Gaussian clusters know no such thing, and every index does well on them. See OOD-DiskANN
(arXiv 2211.12850) and, on the gap, Liang et al. (arXiv 2203.02053).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.types import Ids, Vectors
from mmsearch.core.vectors import as_unit_vectors

DIM, MEANING, DETAIL = 512, 48, 160
SPECTRUM_DECAY = 0.35
"""Standard deviations fall with this power of the rank, as in spectra of embeddings."""

CHUNK = 8192
"""Rows that one random stream makes, whatever the size of blocks: it decides the bytes."""

BLOCK_ROWS = 65_536


class Role(IntEnum):
    """What vectors are for; each has random streams of its own."""

    BASE = 0
    QUERIES = 1
    TRAINING = 2


class Component(IntEnum):
    """What a random stream makes of a chunk."""

    MEANING = 0
    PICTURE = 1
    TEXT = 2


@dataclass(frozen=True)
class CollectionKind:
    """How hard it is to see apart what pictures and texts share from what they do not.

    Attributes:
        detail: Length of pictures' detail in their own units; a meaning's is 0.45.
        overlap: Cosine between the strongest direction of texts' detail and the weakest of
            pictures'; further pairs fall to 0. At 0 a projection can throw away all detail and lose
            nothing; strong on strong, texts would lie like pictures, and nothing would be hard.
        noise: Length of isotropic noise beside a meaning's.
    """

    detail: float
    overlap: float
    noise: float


KINDS = {
    "gap": CollectionKind(detail=1.0, overlap=0.0, noise=0.0),
    "mixed": CollectionKind(detail=0.75, overlap=0.9, noise=0.75),
}


@dataclass(frozen=True)
class Collection:
    """Pictures, and queries for them, as unit vectors.

    The same kind and seed give the same bytes, in blocks of any size; a smaller collection is the
    beginning of a larger one. Image and text queries share their meanings, one by one.

    Attributes:
        kind: A key of `KINDS`.
        rows: Pictures.
        seed: Of the space and of all that lies in it.
    """

    kind: str
    rows: int
    seed: int = 0

    @property
    def ids(self) -> Ids:
        """int64 (rows,)."""
        return np.arange(self.rows, dtype=np.int64)

    @cached_property
    def name(self) -> str:
        """For files that were made of it: another name for other bytes."""
        _, first = next(self.blocks(64))
        return f"{self.kind}-{self.rows}-{hashlib.sha256(first.tobytes()).hexdigest()[:12]}"

    def blocks(self, size: int = BLOCK_ROWS) -> Iterator[tuple[Ids, Vectors]]:
        """Ids and vectors, float32 (at most ``size``, 512), of all pictures in order."""
        chunks: list[Vectors] = []
        first_id = num_buffered = 0
        for vectors in self._chunks(Role.BASE, Component.PICTURE, self.rows):
            chunks.append(vectors)
            num_buffered += len(vectors)
            while num_buffered >= size or (num_buffered and first_id + num_buffered == self.rows):
                buffered = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
                block, remainder = buffered[:size], buffered[size:]
                yield np.arange(first_id, first_id + len(block), dtype=np.int64), block
                first_id, num_buffered, chunks = first_id + len(block), len(remainder), [remainder]

    def base(self) -> Vectors:
        """All pictures at once, float32 (rows, 512)."""
        whole = np.empty((self.rows, DIM), dtype=np.float32)
        for ids, vectors in self.blocks():
            whole[ids[0] : ids[0] + len(ids)] = vectors
        return whole

    def image_queries(self, count: int) -> Vectors:
        """Pictures that are not in the collection, float32 (count, 512)."""
        return np.concatenate(list(self._chunks(Role.QUERIES, Component.PICTURE, count)))

    def text_queries(self, count: int) -> Vectors:
        """Texts of the meanings of `image_queries`, float32 (count, 512)."""
        return np.concatenate(list(self._chunks(Role.QUERIES, Component.TEXT, count)))

    def training_queries(self, count: int = 20_000) -> Vectors:
        """Other texts, from which an index may learn, float32 (count, 512)."""
        return np.concatenate(list(self._chunks(Role.TRAINING, Component.TEXT, count)))

    def _chunks(self, role: Role, part: Component, count: int) -> Iterator[Vectors]:
        for number, first in enumerate(range(0, count, CHUNK)):
            yield self._chunk(role, part, number)[: count - first]

    def _chunk(self, role: Role, part: Component, number: int) -> Vectors:
        meanings = self._generator(role, Component.MEANING, number).standard_normal(
            (CHUNK, MEANING), dtype=np.float32
        )
        generator = self._generator(role, part, number)
        detail = generator.standard_normal((CHUNK, DETAIL), dtype=np.float32) * _spectrum(DETAIL)
        kind, space = KINDS[self.kind], self._space
        rows = 0.45 * (meanings * _spectrum(MEANING)) @ space.meaning
        if part is Component.PICTURE:
            rows += kind.detail * detail @ space.picture_detail + 0.55 * space.picture_offset
        else:
            rows += 0.55 * detail @ space.text_detail + 0.75 * space.text_offset
        if kind.noise:
            length = 0.45 * np.linalg.norm(_spectrum(MEANING)) * kind.noise / np.sqrt(DIM)
            rows += np.float32(length) * generator.standard_normal((CHUNK, DIM), dtype=np.float32)
        return as_unit_vectors(rows)

    def _generator(self, role: Role, part: Component, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1, role, part, number])

    @cached_property
    def _space(self) -> _Space:
        return _Space.of(KINDS[self.kind], np.random.default_rng([self.seed, 0]))


@dataclass(frozen=True)
class _Space:
    """Orthonormal rows of each subspace, and unit offsets; float32 (n, 512) and (512,)."""

    meaning: NDArray[np.float32]
    picture_detail: NDArray[np.float32]
    text_detail: NDArray[np.float32]
    picture_offset: NDArray[np.float32]
    text_offset: NDArray[np.float32]

    @classmethod
    def of(cls, kind: CollectionKind, random: np.random.Generator) -> _Space:
        basis = np.linalg.qr(random.standard_normal((DIM, DIM)))[0].astype(np.float32)
        cuts = np.cumsum([MEANING, DETAIL, DETAIL, 1, 1])
        meaning, picture, text, picture_offset, text_offset, _ = np.split(basis, cuts)
        cosines = np.linspace(kind.overlap, 0, DETAIL, dtype=np.float32)[:, None]
        mixed = cosines * picture[::-1] + np.sqrt(1 - cosines**2) * text
        return cls(meaning, picture, mixed, picture_offset[0], text_offset[0])


def _spectrum(dim: int) -> NDArray[np.float32]:
    """Standard deviations of coordinates, the largest 1."""
    return (np.arange(1, dim + 1, dtype=np.float32) ** -SPECTRUM_DECAY).astype(np.float32)
