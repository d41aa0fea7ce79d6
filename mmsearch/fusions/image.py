"""Image-only fusion: the fused vector is the image vector."""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import FusionSpec, TextVectors, Vectors
from mmsearch.fusions._common import check_weights


def build(spec: FusionSpec) -> Fusion:
    """Return the fusion that ignores texts.

    Raises:
        UsageError: A weight is out of range, even though it is not used.
    """
    return ImageFusion(check_weights(spec))


class ImageFusion:
    """Image-only fusion; see `mmsearch.core.protocols.Fusion`."""

    needs_token_vectors = False

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """Return the image vectors unchanged."""
        return images

    def fuse_query(self, queries: Vectors) -> Vectors:
        """Return the query vectors unchanged."""
        return queries

    def cross_attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """Raise NotImplementedError: this fusion does not need token vectors."""
        raise NotImplementedError
