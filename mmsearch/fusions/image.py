"""Image-only fusion: the fused vector is the image vector."""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.types import TextVectors, Vectors
from mmsearch.fusions._common import BaseFusion


class ImageFusion(BaseFusion):
    """Image-only fusion, which ignores texts; see `mmsearch.core.protocols.Fusion`."""

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Return the image vectors unchanged."""
        return images


build = ImageFusion
