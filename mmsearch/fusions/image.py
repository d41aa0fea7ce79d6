"""The picture alone: its fused vector is its image vector."""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import FusionSpec, TextVectors, Vectors


def build(spec: FusionSpec) -> Fusion:
    """The fusion that leaves texts aside."""
    return ImageFusion(spec)


class ImageFusion:
    """See `mmsearch.core.protocols.Fusion`."""

    needs_parts = False

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """The image vectors."""
        return images

    def fuse_query(self, queries: Vectors) -> Vectors:
        """The query vectors."""
        return queries

    def attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """Never called."""
        raise NotImplementedError
