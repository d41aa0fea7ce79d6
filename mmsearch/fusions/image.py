"""The picture alone: its fused vector is its image vector."""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import Vectors


def build() -> Fusion:
    """The fusion that leaves texts aside."""
    return ImageFusion()


class ImageFusion:
    """See `mmsearch.core.protocols.Fusion`."""

    name = "image"

    def fuse(self, images: Vectors, texts: Sequence[Vectors]) -> Vectors:
        """The image vectors."""
        return images

    def fuse_query(self, texts: Vectors) -> Vectors:
        """The query vectors."""
        return texts
