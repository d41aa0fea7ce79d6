"""The picture alone: its fused vector is its image vector."""

from __future__ import annotations

from collections.abc import Sequence

from mmsearch.core.protocols import Fusion
from mmsearch.core.types import FusionSpec, TextVectors, Vectors
from mmsearch.fusions._common import check_weights


def build(spec: FusionSpec) -> Fusion:
    """Return the fusion that leaves texts aside.

    Raises:
        UsageError: A weight out of range, though it is not used.
    """
    return ImageFusion(check_weights(spec))


class ImageFusion:
    """See `mmsearch.core.protocols.Fusion`."""

    needs_token_vectors = False

    def __init__(self, spec: FusionSpec) -> None:
        self.spec = spec

    def fuse(self, images: Vectors, texts: Sequence[TextVectors]) -> Vectors:
        """The image vectors."""
        return images

    def fuse_query(self, queries: Vectors) -> Vectors:
        """The query vectors."""
        return queries

    def cross_attend(self, patches: Vectors, tokens: Vectors) -> Vectors:
        """Never called."""
        raise NotImplementedError
