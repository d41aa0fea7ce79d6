"""The texts of pictures -> vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmsearch.core.protocols import Encoder, Fusion
from mmsearch.core.texts import encoded_texts, texts_digest
from mmsearch.core.types import (
    ATTENDED,
    EncoderSpec,
    Kind,
    Prepared,
    Text,
    TextSource,
    TextVectors,
    Vectors,
)
from mmsearch.core.vectors import encode_tokens


class TextEncoder:
    """Encodes those texts of a picture that get a vector.

    Args:
        encoder: The index's own.
        fusion: If it needs parts, a vector of what picture and texts agree on is added.
        sources: Where texts that get a vector come from.
    """

    def __init__(self, encoder: Encoder, fusion: Fusion, sources: Sequence[TextSource]) -> None:
        self._encoder = encoder
        self._fusion = fusion
        self._sources = sources

    @property
    def encoder(self) -> EncoderSpec:
        """What makes the vectors."""
        return self._encoder.spec

    def chosen(self, texts: Sequence[Text]) -> tuple[Text, ...]:
        """The texts of a picture that get a vector."""
        return encoded_texts(texts, self._sources)

    def digest(self, texts: Sequence[Text]) -> bytes:
        """Of those of a picture's texts that get a vector."""
        return texts_digest(self.chosen(texts))

    def encode(
        self,
        told: Sequence[Sequence[Text]],
        images: Vectors,
        prepared: Sequence[Prepared] | None = None,
    ) -> list[TextVectors]:
        """Texts of n pictures -> their vectors.

        Args:
            told: All texts of each picture.
            images: (n, dim).
            prepared: The pictures as the encoder takes them; without them nothing attends.
        """
        chosen = [self.chosen(texts) for texts in told]
        tokens = [self._encoder.prepare(Kind.TEXT, text.text) for texts in chosen for text in texts]
        vectors = encode_tokens(self._encoder, tokens)
        encoded = []
        place = 0
        for row, texts in enumerate(chosen):
            span = slice(place, place + len(texts))
            own = TextVectors(tuple(text.kind for text in texts), vectors[span])
            if texts and prepared is not None and self._fusion.needs_parts:
                own = self._attended(own, prepared[row], tokens[span])
            encoded.append(own)
            place += len(texts)
        return encoded

    def _attended(
        self, own: TextVectors, picture: Prepared, tokens: Sequence[Prepared]
    ) -> TextVectors:
        (patches,) = self._encoder.parts(Kind.IMAGE, [picture])
        words = np.concatenate(self._encoder.parts(Kind.TEXT, tokens))
        joint = self._fusion.attend(patches, words)
        return TextVectors((*own.kinds, ATTENDED), np.concatenate([own.vectors, joint]))
