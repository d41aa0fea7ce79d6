"""Creation of enrichers by name, with the encoder of an index for those that need it."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mmsearch.core import plugins
from mmsearch.core.catalog import CatalogReader
from mmsearch.core.derived import EnricherOptions
from mmsearch.core.describe_choices import PATHS
from mmsearch.core.enrichers import EnricherPlugin, PixelEnricher, SoundEnricher
from mmsearch.core.errors import UnknownNameError
from mmsearch.core.identity import Identity
from mmsearch.core.protocols import ImagePreprocessor
from mmsearch.core.query import Query, Term
from mmsearch.core.settings import Settings
from mmsearch.core.types import DERIVED_SOURCES, Calibration, ModelInput, TextSource, Vectors
from mmsearch.factories.plugins import OnMessage, load_index_encoder
from mmsearch.search.confidence import apply_calibration, score_features, to_probability
from mmsearch.search.query_encoder import QueryEncoder

if TYPE_CHECKING:
    from mmsearch.core.speech import SoundBlock


def list_enrichers() -> list[str]:
    """Return the names of the enrichers that describe the contents of an index."""
    return [
        name
        for name in plugins.names("enrichers")
        if name in set(DERIVED_SOURCES) and hasattr(plugins.load("enrichers", name), "READS")
    ]


def load_enricher(name: str) -> EnricherPlugin:
    """Return the plugin of an enricher.

    Raises:
        UnknownNameError: There is no such enricher.
    """
    names = list_enrichers()
    if name not in names:
        raise UnknownNameError(
            f"There is no enricher named {name!r}.", f"Known: {', '.join(names)}."
        )
    plugin: EnricherPlugin = cast("EnricherPlugin", plugins.load("enrichers", name))
    return plugin


def make_enricher_options(
    settings: Settings, enricher: str, options: Mapping[str, str]
) -> EnricherOptions:
    """Return the options of an enricher, given those that a source keeps."""
    values: dict[str, Any] = dict(options)
    values |= {name: Path(value) for name, value in options.items() if name in PATHS}
    if enricher == TextSource.SPEECH:
        values["model"] = settings.speech_model
    return EnricherOptions(device=settings.device, cache=settings.cache, **values)


def build_pixel_enricher(name: str, options: EnricherOptions) -> PixelEnricher:
    """Return an enricher that reads pixels; called in the process in which it works."""
    return cast("PixelEnricher", load_enricher(name).build(options))


def build_sound_enricher(name: str, options: EnricherOptions) -> SoundEnricher:
    """Return an enricher that reads sound; called in the process in which it works."""
    return cast("SoundEnricher", load_enricher(name).build(options))


def open_sound(file: BinaryIO, from_ms: int) -> Generator[SoundBlock]:
    """Return the sound of a file from a time in milliseconds on; called in worker processes.

    Raises:
        DecodeError: The content is not a recording, or its sound cannot be read.
    """
    from mmsearch.enrichers._sound import read_sound  # noqa: PLC0415 - imports FFmpeg

    return read_sound(file, from_ms)


def with_index_encoder(
    options: EnricherOptions,
    catalog: CatalogReader,
    identity: Identity,
    settings: Settings,
    on_message: OnMessage,
) -> EnricherOptions:
    """Return options with functions that encode texts and compare them with pictures of an index.

    Raises:
        EncoderMismatchError: The weights of the index's encoder have changed.
    """
    encoder = load_index_encoder(identity, settings, on_message)
    with catalog.snapshot() as snapshot:
        calibration = apply_calibration(snapshot.calibration, encoder)
    queries = QueryEncoder(encoder, _load_no_image)

    def encode_texts(texts: Sequence[str]) -> Vectors:
        terms = tuple(Term(text=text) for text in texts)
        queries.prefetch([Query(terms=terms)])
        return queries.vectors(terms)

    return replace(
        options,
        encode_texts=encode_texts,
        probabilities=lambda images, texts: _probabilities(images, texts, calibration),
    )


def _probabilities(
    images: Vectors, texts: Vectors, calibration: Calibration
) -> NDArray[np.float64]:
    """Return the probability that each of n pictures shows each of t texts, float64 (n, t)."""
    similarities = (texts @ images.T).astype(np.float64)
    if calibration.background is None:
        # The pictures themselves stand for a background: most of them do not show a word.
        above_mean = similarities - similarities.mean(axis=1, keepdims=True)
        std: NDArray[np.float64] = np.maximum(similarities.std(axis=1, keepdims=True), 1e-3)
    else:
        above_mean, std = score_features(similarities, texts, calibration.background)
    probabilities: NDArray[np.float64] = to_probability(above_mean, std, calibration.texts).T
    return probabilities


def _load_no_image(path: Path, preprocessor: ImagePreprocessor) -> ModelInput:
    raise ValueError("texts alone are encoded")
