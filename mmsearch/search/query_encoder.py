"""Encoding of queries: terms into vectors, with the stored vectors of indexed pictures."""

from __future__ import annotations

import os
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mmsearch.core.display import display_path
from mmsearch.core.errors import Hint, InvalidQueryError, UnknownNameError
from mmsearch.core.files import clamped_ctime_ns, clamped_mtime_ns
from mmsearch.core.identity import check_encoder
from mmsearch.core.query import EncodedQuery, Mode, Query, SearchRequest, Term
from mmsearch.core.records import ScannedFile, is_unchanged
from mmsearch.core.types import InputKind, ModelInput, Vectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.search.snapshots import open_latest_snapshot
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_image_vectors

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogReader, Snapshot
    from mmsearch.core.protocols import Encoder, ImagePreprocessor

MAX_CACHED_TEXTS = 4096
"""Maximum number of texts whose vectors are cached."""

TEXT_BATCH = 64
"""Maximum number of texts that are encoded as one batch."""

MIN_NORM = 1e-6

StoredVectors = dict[Term, NDArray[np.float32]]


class VectorLookup(Protocol):
    """Finds the stored vectors of the pictures that terms name."""

    def vectors(self, terms: Sequence[Term], encoder: Encoder) -> StoredVectors:
        """Return a float32 (dim,) vector for each term that names an indexed picture."""


class QueryEncoder:
    """Encodes texts and pictures of queries. Only one thread at a time may encode.

    Args:
        encoder: Encoder of the index.
        load_image: Reads a picture and preprocesses it for the encoder.
        stored_lookup: Lookup of the vectors of indexed pictures; None to encode every picture.
    """

    def __init__(
        self,
        encoder: Encoder,
        load_image: Callable[[Path, ImagePreprocessor], ModelInput],
        stored_lookup: VectorLookup | None = None,
    ) -> None:
        self._encoder = encoder
        self._stored_lookup = stored_lookup
        self._load_image = load_image
        self._text_cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def stored_vectors(self, terms: Sequence[Term]) -> StoredVectors:
        """Return the stored vectors of terms; see `StoredVectorLookup.vectors`."""
        return (
            {} if self._stored_lookup is None else self._stored_lookup.vectors(terms, self._encoder)
        )

    def encode(self, request: SearchRequest, started: float) -> EncodedQuery:
        """Return the encoded query of a request.

        Args:
            request: A valid request.
            started: Time at which its batch was started, a reading of `time.perf_counter`.

        Raises:
            SourceError: A picture cannot be read.
            UnknownNameError: The index has no picture with the id of a term.
            InvalidQueryError: A prompt is invalid; see `vectors`.
            EncoderMismatchError: The index was re-encoded with a different encoder.
        """
        query, fingerprint = request.query, self._encoder.spec.fingerprint
        if query.mode is Mode.TEXT or query.is_listing:
            return EncodedQuery(request, fingerprint, time.perf_counter() - started)
        stored = self.stored_vectors(query.terms)
        vectors = self.vectors(query.terms, query.prompts, stored)
        encoded = [term for term in query.terms if not (term.text is None and term in stored)]
        kinds = {InputKind.IMAGE if term.image is not None else InputKind.TEXT for term in encoded}
        devices, dropped_tokens = {}, 0
        for kind in sorted(kinds, reverse=True):
            devices[kind.value] = self._encoder.device(kind)
        for term in query.terms:
            if term.text:
                dropped_tokens += self._encoder.dropped_tokens(term.text)
        return EncodedQuery(
            request,
            fingerprint,
            time.perf_counter() - started,
            vectors,
            dropped_tokens,
            devices,
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
            if term.text is None and stored_vectors and term in stored_vectors:
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

    def prefetch(self, queries: Sequence[Query]) -> None:
        """Encode the texts of many queries in batches, for later calls of `encode`.

        Raises:
            InvalidQueryError: A prompt is invalid; see `vectors`.
        """
        texts_by_prompts: dict[tuple[str, ...] | None, list[str]] = defaultdict(list)
        for query in queries:
            if query.mode is not Mode.TEXT:
                texts = [term.text for term in query.terms if term.text]
                texts_by_prompts[query.prompts].extend(texts)
        for prompts, texts in texts_by_prompts.items():
            templates = self._resolve_prompts(prompts)
            self.ensure_encoded(
                [template.replace("{}", text) for text in texts for template in templates]
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
            new_vectors: dict[str, NDArray[np.float32]] = {}
            for start in range(0, len(missing), TEXT_BATCH):
                batch = missing[start : start + TEXT_BATCH]
                tokens = [self._prepare(text) for text in batch]
                rows = self._encoder.encode(InputKind.TEXT, tokens)
                new_vectors.update(zip(batch, rows, strict=True))
            vectors_by_text |= new_vectors
            self._text_cache.update(new_vectors)
            while len(self._text_cache) > max(MAX_CACHED_TEXTS, len(texts)):
                self._text_cache.popitem(last=False)
        return vectors_by_text

    def _prepare(self, text: str) -> ModelInput:
        # Optional: the encoder may read queries otherwise than the texts of an index.
        prepare_query: Callable[[str], ModelInput] | None
        prepare_query = getattr(self._encoder, "prepare_query", None)
        return prepare_query(text) if prepare_query else self._encoder.prepare(InputKind.TEXT, text)

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
                    Hint(
                        "{}",
                        'Write {} where the text goes: "a photo of {}".',
                        'Write {} where the text goes: --prompt "a photo of {}"',
                    ),
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


class StoredVectorLookup:
    """Finds the stored vectors of pictures in the index. Not thread-safe.

    Args:
        layout: Layout of the index.
        catalog: Catalog, open for reading.
    """

    def __init__(self, layout: IndexLayout, catalog: CatalogReader) -> None:
        self._layout = layout
        self._catalog = catalog

    def vectors(self, terms: Sequence[Term], encoder: Encoder) -> StoredVectors:
        """Return a float32 (dim,) vector for each term that names an indexed picture.

        A term names a picture by its id or by the path of its file. The vectors are the encoder's
        image vectors, within the precision of float16. A file is used only if its size and
        modification time are unchanged since it was indexed; other files are left out.

        Args:
            terms: Terms of a query.
            encoder: Encoder of the other terms.

        Raises:
            UnknownNameError: The index has no picture with the id of a term.
            EncoderMismatchError: The stored vectors come from a different encoder.
            DamagedFileError: A segment does not match the catalog.
        """
        image_terms = [term for term in terms if term.text is None and term.url is None]
        if not image_terms:
            return {}

        def read_vectors(snapshot: Snapshot) -> StoredVectors:
            if snapshot.identity is not None:
                check_encoder(snapshot.identity, encoder)
            return self._read_vectors(snapshot, image_terms)

        with open_latest_snapshot(self._catalog, read_vectors) as (_, stored_vectors):
            return stored_vectors

    def _read_vectors(self, snapshot: Snapshot, terms: Sequence[Term]) -> StoredVectors:
        ids = {term: self._find_image_id(snapshot, term) for term in terms}
        known_ids = {term: image_id for term, image_id in ids.items() if image_id is not None}
        segments = snapshot.find_segments(list(known_ids.values()))
        missing = [image_id for image_id in known_ids.values() if image_id not in segments]
        without_pixels = set(snapshot.ids_without_pixels.tolist()) if missing else set()
        for term, image_id in known_ids.items():
            if image_id in without_pixels:
                name = f"Item {image_id}" if term.image is None else display_path(term.image)
                raise InvalidQueryError(
                    f"{name} has no pixels that pictures can be compared with.",
                    "Search for words that are in its texts.",
                )
        if missing:
            raise UnknownNameError(
                f"Index {self._layout.name!r} has no picture {missing[0]}.",
                Hint("Use {}.", "the id of a hit", "the id of a hit, which --json shows"),
            )
        stored_vectors = {}
        for term, image_id in known_ids.items():
            segment = segments[image_id]
            stored_vectors[term] = read_image_vectors(self._layout, segment, [image_id])[0]
        return stored_vectors

    @staticmethod
    def _find_image_id(snapshot: Snapshot, term: Term) -> int | None:
        if term.image is None:
            return term.picture
        path = os.path.abspath(os.fsencode(term.image))  # noqa: PTH100 - bytes paths need os.path
        found = snapshot.find_item(path)
        if found is None:
            return None
        file_record, item_id = found
        try:
            stat = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        scanned_file = ScannedFile(
            file_record.path,
            stat.st_size,
            clamped_mtime_ns(stat),
            ctime_ns=clamped_ctime_ns(stat),
        )
        return item_id if is_unchanged(file_record, scanned_file) else None
