"""The terms of queries -> vectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import Encoder, ImagePreparation
from mmsearch.core.queries import Term
from mmsearch.core.types import Kind, Prepared, Vectors
from mmsearch.core.vectors import as_unit_vectors, encode_tokens
from mmsearch.search.stored_vectors import Stored, StoredPictures
from mmsearch.search.vector_cache import KeptVectors

REMEMBERED = 4096
"""Texts whose vectors are kept for the next query."""

NO_DIRECTION = 1e-6


class QueryEncoder:
    """Encodes texts and pictures of queries. One thread at a time.

    Args:
        encoder: The index's own.
        prepare_picture: Reads a picture and prepares it as the encoder wants it.
        kept: What is kept between processes; None: nothing.
        pictures: Those of the index; None: every picture is encoded.
    """

    def __init__(
        self,
        encoder: Encoder,
        prepare_picture: Callable[[Path, ImagePreparation], Prepared],
        kept: KeptVectors | None = None,
        pictures: StoredPictures | None = None,
    ) -> None:
        self._encoder = encoder
        self._pictures = pictures
        self._kept = kept
        self._prepare_picture = prepare_picture
        self._texts: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def stored(self, terms: Sequence[Term]) -> Stored:
        """The terms that need no encoding; see `StoredPictures.vectors`."""
        return {} if self._pictures is None else self._pictures.vectors(terms, self._encoder)

    def vectors(
        self,
        terms: Sequence[Term],
        prompts: Sequence[str] | None = None,
        stored: Stored | None = None,
    ) -> Vectors:
        """(n, dim), a row a term.

        Args:
            terms: At least one.
            prompts: Phrasings of a text, see `Query.prompts`.
            stored: What `stored` gave for them; a term that is a picture's id must be there.

        Raises:
            SourceError: A picture cannot be read.
            InvalidQueryError: There is no phrasing, or one has no place for the text.
        """
        rows = []
        for term in terms:
            if stored is not None and term in stored:
                rows.append(stored[term])
            elif term.image is not None:
                rows.append(self._image(term.image))
            else:
                rows.append(self._phrased(term.text or "", self._prompts(prompts)))
        return np.stack(rows)

    def mean(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (dim,), not of norm 1: the mean of the vectors of texts."""
        known = self.remember(texts)
        mean: NDArray[np.float32] = np.mean([known[text] for text in texts], axis=0)
        return mean

    def kept_mean(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `mean`, of texts that every query compares with."""
        return self.mean(texts) if self._kept is None else self._kept.get(texts, self.mean)

    def warm(self, terms: Iterable[Term], prompts: Sequence[str] | None = None) -> None:
        """Encode the texts of many terms at once; `vectors` then finds them."""
        phrasings = self._prompts(prompts)
        self.remember([p.replace("{}", t.text) for t in terms if t.text for p in phrasings])

    def remember(self, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Return float32 (dim,) for each text; those that are not known yet are encoded.

        Another thread may drop any of them from memory at any moment: take them from here.
        """
        known = {}
        missing = []
        for text in dict.fromkeys(texts):
            vector = self._texts.get(text)
            if vector is None:
                missing.append(text)
            else:
                known[text] = vector
        if missing:
            tokens = [self._encoder.prepare(Kind.TEXT, text) for text in missing]
            fresh = dict(zip(missing, encode_tokens(self._encoder, tokens), strict=True))
            known |= fresh
            self._texts.update(fresh)
            while len(self._texts) > max(REMEMBERED, len(texts)):
                self._texts.popitem(last=False)
        return known

    def dropped_tokens(self, terms: Sequence[Term]) -> int:
        """Tokens beyond what the encoder reads, in all terms together."""
        return sum(self._encoder.dropped_tokens(term.text) for term in terms if term.text)

    def _prompts(self, prompts: Sequence[str] | None) -> Sequence[str]:
        chosen = self._encoder.prompts if prompts is None else prompts
        if not chosen:
            raise InvalidQueryError("The query has no prompt.", "Give one, or leave them all out.")
        for prompt in chosen:
            if prompt.count("{}") != 1:
                raise InvalidQueryError(
                    f"The prompt {prompt!r} does not have one place for the text.",
                    'Write {} where the text goes: --prompt "a photo of {}"',
                )
        return chosen

    def _phrased(self, text: str, prompts: Sequence[str]) -> NDArray[np.float32]:
        if len(prompts) == 1:
            phrased = prompts[0].replace("{}", text)
            return self.remember([phrased])[phrased]
        mean = self.mean([prompt.replace("{}", text) for prompt in prompts])
        if np.linalg.norm(mean) <= NO_DIRECTION:
            mean = self.mean([text])
        unit: NDArray[np.float32] = as_unit_vectors(mean[None, :])[0]
        return unit

    def _image(self, path: Path) -> NDArray[np.float32]:
        prepared = self._prepare_picture(path, self._encoder.image_preparation)
        vector: NDArray[np.float32] = self._encoder.encode(Kind.IMAGE, [prepared])[0]
        return vector
