"""The terms of queries -> vectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import Encoder, ImagePreprocessor
from mmsearch.core.queries import Term
from mmsearch.core.types import InputKind, ModelInput, Vectors
from mmsearch.core.vectors import as_unit_vectors, encode_model_inputs
from mmsearch.search.stored_vectors import StoredVectorLookup, StoredVectors
from mmsearch.search.vector_cache import VectorCache

MAX_CACHED_TEXTS = 4096
"""Texts whose vectors are kept for the next query."""

MIN_NORM = 1e-6


class QueryEncoder:
    """Encodes texts and pictures of queries. One thread at a time.

    Args:
        encoder: The index's own.
        load_image: Reads a picture and prepares it as the encoder wants it.
        kept: What is kept between processes; None: nothing.
        pictures: Those of the index; None: every picture is encoded.
    """

    def __init__(
        self,
        encoder: Encoder,
        load_image: Callable[[Path, ImagePreprocessor], ModelInput],
        vector_cache: VectorCache | None = None,
        stored_lookup: StoredVectorLookup | None = None,
    ) -> None:
        self._encoder = encoder
        self._stored_lookup = stored_lookup
        self._vector_cache = vector_cache
        self._load_image = load_image
        self._text_cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def stored_vectors(self, terms: Sequence[Term]) -> StoredVectors:
        """The terms that need no encoding; see `StoredVectorLookup.vectors`."""
        return (
            {} if self._stored_lookup is None else self._stored_lookup.vectors(terms, self._encoder)
        )

    def vectors(
        self,
        terms: Sequence[Term],
        prompts: Sequence[str] | None = None,
        stored_vectors: StoredVectors | None = None,
    ) -> Vectors:
        """(n, dim), a row a term.

        Args:
            terms: At least one.
            prompts: Phrasings of a text, see `Query.prompts`.
            stored_vectors: What `stored_vectors` gave for them; a term that is a picture's id must be there.

        Raises:
            SourceError: A picture cannot be read.
            InvalidQueryError: There is no phrasing, or one has no place for the text.
        """
        rows = []
        for term in terms:
            if stored_vectors is not None and term in stored_vectors:
                rows.append(stored_vectors[term])
            elif term.image is not None:
                rows.append(self._encode_image(term.image))
            else:
                rows.append(self._encode_text(term.text or "", self._resolve_prompts(prompts)))
        return np.stack(rows)

    def mean(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 (dim,), not of norm 1: the mean of the vectors of texts."""
        vectors_by_text = self.ensure_encoded(texts)
        mean: NDArray[np.float32] = np.mean([vectors_by_text[text] for text in texts], axis=0)
        return mean

    def cached_mean(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As `mean`, of texts that every query compares with."""
        return (
            self.mean(texts)
            if self._vector_cache is None
            else self._vector_cache.get(texts, self.mean)
        )

    def prefetch(self, terms: Iterable[Term], prompts: Sequence[str] | None = None) -> None:
        """Encode the texts of many terms at once; `vectors` then finds them."""
        templates = self._resolve_prompts(prompts)
        self.ensure_encoded(
            [
                template.replace("{}", term.text)
                for term in terms
                if term.text
                for template in templates
            ]
        )

    def ensure_encoded(self, texts: Sequence[str]) -> Mapping[str, NDArray[np.float32]]:
        """Return float32 (dim,) for each text; those that are not known yet are encoded.

        Another thread may drop any of them from memory at any moment: take them from here.
        """
        vectors_by_text = {}
        missing = []
        for text in dict.fromkeys(texts):
            vector = self._text_cache.get(text)
            if vector is None:
                missing.append(text)
            else:
                vectors_by_text[text] = vector
        if missing:
            tokens = [self._encoder.prepare(InputKind.TEXT, text) for text in missing]
            new_vectors = dict(
                zip(missing, encode_model_inputs(self._encoder, tokens), strict=True)
            )
            vectors_by_text |= new_vectors
            self._text_cache.update(new_vectors)
            while len(self._text_cache) > max(MAX_CACHED_TEXTS, len(texts)):
                self._text_cache.popitem(last=False)
        return vectors_by_text

    def dropped_tokens(self, terms: Sequence[Term]) -> int:
        """Tokens beyond what the encoder reads, in all terms together."""
        return sum(self._encoder.dropped_tokens(term.text) for term in terms if term.text)

    def _resolve_prompts(self, prompts: Sequence[str] | None) -> Sequence[str]:
        templates = self._encoder.prompts if prompts is None else prompts
        if not templates:
            raise InvalidQueryError("The query has no prompt.", "Give one, or leave them all out.")
        for prompt in templates:
            if prompt.count("{}") != 1:
                raise InvalidQueryError(
                    f"The prompt {prompt!r} does not have one place for the text.",
                    'Write {} where the text goes: --prompt "a photo of {}"',
                )
        return templates

    def _encode_text(self, text: str, prompts: Sequence[str]) -> NDArray[np.float32]:
        if len(prompts) == 1:
            prompted_text = prompts[0].replace("{}", text)
            return self.ensure_encoded([prompted_text])[prompted_text]
        mean = self.mean([prompt.replace("{}", text) for prompt in prompts])
        if np.linalg.norm(mean) <= MIN_NORM:
            mean = self.mean([text])
        unit_vector: NDArray[np.float32] = as_unit_vectors(mean[None, :])[0]
        return unit_vector

    def _encode_image(self, path: Path) -> NDArray[np.float32]:
        model_input = self._load_image(path, self._encoder.image_preprocessor)
        vector: NDArray[np.float32] = self._encoder.encode(InputKind.IMAGE, [model_input])[0]
        return vector
