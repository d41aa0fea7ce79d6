"""Encoding of query terms into vectors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.protocols import Encoder, ImagePreprocessor
from mmsearch.core.query import Term
from mmsearch.core.types import InputKind, ModelInput, Vectors
from mmsearch.core.vectors import as_unit_vectors, encode_model_inputs
from mmsearch.search.stored_vectors import StoredVectorLookup, StoredVectors
from mmsearch.search.vector_cache import VectorCache

MAX_CACHED_TEXTS = 4096
"""Maximum number of texts whose vectors are cached."""

MIN_NORM = 1e-6


class QueryEncoder:
    """Encodes texts and pictures of queries. Only one thread at a time may encode.

    Args:
        encoder: Encoder of the index.
        load_image: Reads a picture and preprocesses it for the encoder.
        vector_cache: Cache of vectors shared between processes; None for no such cache.
        stored_lookup: Lookup of the vectors of indexed pictures; None to encode every picture.
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
        """Return the stored vectors of terms; see `StoredVectorLookup.vectors`."""
        return (
            {} if self._stored_lookup is None else self._stored_lookup.vectors(terms, self._encoder)
        )

    def vectors(
        self,
        terms: Sequence[Term],
        prompts: Sequence[str] | None = None,
        stored_vectors: StoredVectors | None = None,
    ) -> Vectors:
        """Return the vectors of terms, (n, dim), one row for each term.

        Args:
            terms: At least one term.
            prompts: Prompt templates, see `Query.prompts`; None for those of the encoder.
            stored_vectors: Result of `stored_vectors` for these terms. It must contain each term
                that is a picture's id.

        Raises:
            SourceError: A picture cannot be read.
            InvalidQueryError: The list of prompts is empty, or a prompt does not contain ``{}``
                exactly once.
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
        """Return the mean of the vectors of texts, float32 (dim,), not normalized."""
        vectors_by_text = self.ensure_encoded(texts)
        mean: NDArray[np.float32] = np.mean([vectors_by_text[text] for text in texts], axis=0)
        return mean

    def cached_mean(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return `mean` of texts that many queries need, from the vector cache if possible."""
        return (
            self.mean(texts)
            if self._vector_cache is None
            else self._vector_cache.get(texts, self.mean)
        )

    def prefetch(self, terms: Iterable[Term], prompts: Sequence[str] | None = None) -> None:
        """Encode the texts of many terms in one batch, for later calls of `vectors`."""
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
        """Return a float32 (dim,) vector for each text; texts that are not cached are encoded.

        Use the returned vectors: another thread may evict any of them from the cache at any time.
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
        """Return the number of tokens beyond the encoder's limit, summed over all terms."""
        return sum(self._encoder.dropped_tokens(term.text) for term in terms if term.text)

    def _resolve_prompts(self, prompts: Sequence[str] | None) -> Sequence[str]:
        templates = self._encoder.prompts if prompts is None else prompts
        if not templates:
            raise InvalidQueryError(
                "The query has no prompt.", "Give at least one prompt, or leave out the list."
            )
        for prompt in templates:
            if prompt.count("{}") != 1:
                raise InvalidQueryError(
                    f"The prompt {prompt!r} must contain {{}} exactly once.",
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
