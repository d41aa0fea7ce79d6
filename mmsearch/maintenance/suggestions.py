"""Update of the words that suggestions are chosen from, after an index has changed.

The words of the texts come from the full-text index. Beside them, each word of a vocabulary is
compared with all pictures: one that some picture surely shows is suggested, too. The vectors of the
vocabulary are computed once for each model, and kept in the cache of models.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmsearch.core.catalog import PUBLISHING
from mmsearch.core.errors import MMSearchError
from mmsearch.core.query import Query, Term
from mmsearch.core.suggestions import SuggestedWord, SuggestionState
from mmsearch.core.types import Vectors

if TYPE_CHECKING:
    from mmsearch.core.catalog import CatalogWriter
    from mmsearch.core.protocols import Encoder
    from mmsearch.core.settings import Settings
    from mmsearch.storage.layout import IndexLayout

MIN_LOOK_CONFIDENCE = 0.75
"""Minimum probability that one of the ten nearest pictures shows a word of the vocabulary. Chosen
on half of the photographs of tests/photos and on those of Debian's packages."""

MIN_PICTURES = 30
"""Number of pictures from which on the vocabulary is compared with them."""

SMALL_PICTURES = 2000
"""Number of pictures up to which each change updates the suggestions: it takes a tenth of a second.
"""

CHANGED_SHARE = 0.1
"""Share of pictures or texts of a larger library that are new or gone before an update."""

MAX_ENCODE_S = 5.0
"""Seconds of a run for encoding the vocabulary; the next run goes on. A small model takes one."""

NEAREST = 10
"""Number of the nearest pictures of which one must show a word: a page of hits."""

BATCH = 16

_VOCABULARY_FOLDER = "vocabularies"


def update_suggestions(
    layout: IndexLayout,
    catalog: CatalogWriter,
    encoder: Encoder,
    settings: Settings,
    *,
    force: bool = False,
    is_addition: bool = False,
) -> bool:
    """Update the suggestions if the index has changed enough; return whether it was done.

    A part of the index that cannot be read leaves them as they are: it is no error of the run.

    Args:
        layout: Files of the index.
        catalog: Catalog, open for writing.
        encoder: Encoder of the index.
        settings: Settings of this process.
        force: True to update them in any case, however long the model takes.
        is_addition: True after a program has added some pictures: a small library counts as a large
            one, because an update for each of many calls would cost more than the calls.
    """
    with catalog.one_at_a_time(PUBLISHING):
        return _update(layout, catalog, encoder, settings, force=force, is_addition=is_addition)


def _update(
    layout: IndexLayout,
    catalog: CatalogWriter,
    encoder: Encoder,
    settings: Settings,
    *,
    force: bool,
    is_addition: bool,
) -> bool:
    words = read_vocabulary()
    state = catalog.suggestions.current_state(encoder.spec.fingerprint, _digest(words))
    if not force and not is_due(
        catalog.suggestions.saved_state(), state, 0 if is_addition else SMALL_PICTURES
    ):
        return False
    with suppress(MMSearchError):
        looks: list[SuggestedWord] = []
        if state.pictures >= MIN_PICTURES:
            vectors = encode_vocabulary(words, encoder, settings.cache, force=force)
            if vectors is None:
                # The next run goes on.
                state = replace(state, vocabulary="")
            else:
                looks = find_looks(layout, catalog, encoder, words, vectors)
        own = sorted(catalog.suggestions.collect(), key=lambda word: -word.count)
        catalog.suggestions.save([*own, *looks], state)
        return True
    return False


def read_vocabulary() -> tuple[str, ...]:
    """Return the words that are compared with pictures: general ones, which models know well."""
    text = resources.files("mmsearch.core.language_data").joinpath("looks.txt").read_text()
    return tuple(text.splitlines())


def is_due(
    saved: SuggestionState | None, now: SuggestionState, small_pictures: int = SMALL_PICTURES
) -> bool:
    """Return True if an index has changed enough since its suggestions were made.

    Args:
        saved: State of the last update.
        now: State now.
        small_pictures: Number of pictures up to which each change is enough.
    """
    if saved is None or (saved.encoder, saved.vocabulary) != (now.encoder, now.vocabulary):
        return now.pictures > 0
    if saved.generation == now.generation:
        return False
    if now.pictures <= small_pictures:
        return True
    new_pictures = abs(now.pictures - saved.pictures)
    new_texts = abs(now.last_text - saved.last_text)
    return new_pictures > CHANGED_SHARE * saved.pictures or (
        new_texts > CHANGED_SHARE * max(saved.last_text, saved.pictures)
    )


def encode_vocabulary(
    words: Sequence[str], encoder: Encoder, cache: Path, *, force: bool = False
) -> Vectors | None:
    """Return the query vectors of n words, (n, dim), which the cache keeps.

    Args:
        words: The words.
        encoder: The encoder.
        cache: Folder of compiled models.
        force: True to encode all words now.

    Returns:
        The vectors; None if the time was over before, so that a later call must go on.
    """
    path = cache / _VOCABULARY_FOLDER / f"{encoder.spec.fingerprint}-{_digest(words)}.npy"
    kept = _read_vectors(path, encoder.spec.dim)
    if len(kept) == len(words):
        return kept
    from mmsearch.search.query_encoder import QueryEncoder  # noqa: PLC0415 - once for each model

    queries = QueryEncoder(encoder, _load_no_image)
    parts = [kept[: len(words)]]
    stop_s = time.monotonic() + MAX_ENCODE_S
    for start in range(len(parts[0]), len(words), BATCH):
        terms = [Term(word) for word in words[start : start + BATCH]]
        queries.prefetch([Query(tuple(terms))])
        parts.append(queries.vectors(terms))
        if time.monotonic() > stop_s and not force:
            break
    vectors: Vectors = np.concatenate(parts)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
        temporary.replace(path)
    return vectors if len(vectors) == len(words) else None


def find_looks(
    layout: IndexLayout,
    catalog: CatalogWriter,
    encoder: Encoder,
    words: Sequence[str],
    vectors: Vectors,
) -> list[SuggestedWord]:
    """Return the words that some picture shows, each with the most probable picture.

    Its confidence is the probability that at least one of the nearest pictures shows it. No other
    word of the vocabulary fits the most probable picture better: a duck is no goose. Without a
    calibration there are no such words, because similarities alone are no probabilities.

    Args:
        layout: Files of the index.
        catalog: Catalog, open for writing.
        encoder: Encoder of the index.
        words: The n words.
        vectors: (n, dim), their query vectors.
    """
    # Most runs change too little for an update.
    from mmsearch.factories.plugins import make_fusion  # noqa: PLC0415
    from mmsearch.factories.search import StoreOpener  # noqa: PLC0415
    from mmsearch.search.confidence import (  # noqa: PLC0415
        apply_calibration,
        score_features,
        to_probability,
    )
    from mmsearch.vector_stores.files import read_stored_image_vectors  # noqa: PLC0415

    opener = StoreOpener(layout, encoder, "cpu")
    with catalog.snapshot() as snapshot:
        calibration = apply_calibration(snapshot.calibration, encoder)
        if snapshot.identity is None or calibration.background is None or not calibration.measured:
            return []
        fused = make_fusion(snapshot.identity.fusion).fuse_query(vectors)
        nearest = opener.open_store(snapshot).search(fused, NEAREST).ids
        ids = np.unique(nearest[nearest >= 0])
        if not len(ids):
            return []
        images = read_stored_image_vectors(layout, snapshot, ids)
    above_mean, std = score_features(vectors @ images.T, vectors, calibration.background)
    shown = to_probability(above_mean, std, calibration.texts)
    is_near = np.zeros(shown.shape, dtype=bool)
    rows, ranks = np.nonzero(nearest >= 0)
    is_near[rows, np.searchsorted(ids, nearest[rows, ranks])] = True
    near = np.where(is_near, shown, 0.0)
    confidences = 1.0 - np.prod(1.0 - near, axis=1)
    best = near.argmax(axis=1)
    is_best_word = shown[:, best].argmax(axis=0) == np.arange(len(words))
    looks = [
        SuggestedWord(words[row], int(ids[best[row]]), confidence=float(confidences[row]))
        for row in np.flatnonzero(is_best_word & (confidences >= MIN_LOOK_CONFIDENCE)).tolist()
    ]
    return sorted(looks, key=lambda look: -look.confidence)


def _read_vectors(path: Path, dim: int) -> Vectors:
    """Return the kept vectors, (n, dim); none if there is no such file or it is damaged."""
    with suppress(OSError, ValueError, EOFError):
        vectors: Vectors = np.load(path, allow_pickle=False)
        is_valid = vectors.shape[1:] == (dim,) and vectors.dtype == np.float32
        if is_valid and np.isfinite(vectors).all():
            return vectors
    return np.empty((0, dim), np.float32)


def _digest(words: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _load_no_image(path: Path, prepare: Callable[..., object]) -> Vectors:
    raise NotImplementedError(f"{path}: only words are encoded")
