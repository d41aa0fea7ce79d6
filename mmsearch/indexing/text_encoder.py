"""Encoding of the texts of pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmsearch.core.protocols import Encoder, Fusion
from mmsearch.core.types import (
    CROSS_ATTENTION,
    EncoderSpec,
    InputKind,
    ModelInput,
    Text,
    TextSource,
    TextVectors,
    Vectors,
    select_encoded_texts,
    texts_digest,
)
from mmsearch.core.vectors import encode_model_inputs


class TextEncoder:
    """Encoder for the texts of pictures.

    Args:
        encoder: The index's encoder.
        fusion: The index's fusion. If it has a `cross_attend`, `encode` adds its vector.
        sources: Sources of the texts that are encoded.
    """

    def __init__(self, encoder: Encoder, fusion: Fusion, sources: Sequence[TextSource]) -> None:
        self._encoder = encoder
        self._fusion = fusion
        self._sources = sources

    @property
    def encoder_spec(self) -> EncoderSpec:
        """Spec of the encoder."""
        return self._encoder.spec

    def select(self, texts: Sequence[Text]) -> tuple[Text, ...]:
        """Return the texts of a picture that are encoded."""
        return select_encoded_texts(texts, self._sources)

    def digest(self, texts: Sequence[Text]) -> bytes:
        """Return the digest of the texts of a picture that are encoded."""
        return texts_digest(self.select(texts))

    def encode(
        self,
        texts_per_image: Sequence[Sequence[Text]],
        images: Vectors,
        image_inputs: Sequence[ModelInput] | None = None,
    ) -> list[TextVectors]:
        """Encode the texts of n pictures.

        Args:
            texts_per_image: All texts of each picture.
            images: Image vectors, (n, dim).
            image_inputs: The pictures as model inputs; None skips cross-attention.
        """
        chosen = [self.select(texts) for texts in texts_per_image]
        text_inputs = [
            self._encoder.prepare(InputKind.TEXT, text.text) for texts in chosen for text in texts
        ]
        vectors = encode_model_inputs(self._encoder, text_inputs)
        encoded = []
        offset = 0
        for row, texts in enumerate(chosen):
            span = slice(offset, offset + len(texts))
            text_vectors = TextVectors(tuple(text.kind for text in texts), vectors[span])
            if texts and image_inputs is not None and self._fusion.cross_attend is not None:
                (patches,) = self._encoder.token_vectors(InputKind.IMAGE, [image_inputs[row]])
                tokens = self._encoder.token_vectors(InputKind.TEXT, text_inputs[span])
                attended = self._fusion.cross_attend(patches, np.concatenate(tokens))
                text_vectors = TextVectors(
                    (*text_vectors.kinds, CROSS_ATTENTION),
                    np.concatenate([text_vectors.vectors, attended]),
                )
            encoded.append(text_vectors)
            offset += len(texts)
        return encoded
