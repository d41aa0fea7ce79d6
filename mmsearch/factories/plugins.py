"""Creation of plugins by name, and parsing of the settings that select them."""

from __future__ import annotations

from mmsearch.core import plugins
from mmsearch.core.errors import UsageError
from mmsearch.core.protocols import (
    Fusion,
    FusionPlugin,
    Modality,
    RankFusion,
    VectorIndexPlugin,
)
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, TextSource
from mmsearch.indexing.build import AUTO


def load_vector_index_plugin(name: str) -> VectorIndexPlugin:
    """Return the module of vector_indexes/ with a given name."""
    plugin: VectorIndexPlugin = plugins.load("vector_indexes", name)
    return plugin


def check_vector_index_name(name: str) -> None:
    """Check the name of a vector index before any work is done.

    Raises:
        UnknownNameError: The name is neither a module of vector_indexes/ nor ``auto``.
    """
    if name != AUTO:
        plugins.load("vector_indexes", name, extra_names=(AUTO,))


def make_fusion(spec: FusionSpec) -> Fusion:
    """Return the fusion with the name and weights of a spec.

    Raises:
        UsageError: A weight is out of range.
    """
    plugin: FusionPlugin = plugins.load("fusions", spec.name)
    return plugin.build(spec)


def make_rank_fusion(name: str) -> RankFusion:
    """Return the rank fusion with a given name."""
    rank_fusion: RankFusion = plugins.load("rank_fusions", name).build()
    return rank_fusion


def parse_text_sources(texts: str) -> tuple[TextSource, ...]:
    """Return the text sources in a setting such as ``sidecar,metadata``, in a fixed order.

    The setting ``none`` gives an empty tuple.

    Raises:
        UsageError: The setting is empty, names an unknown source, or combines ``none`` with others.
    """
    names = {name.strip().lower() for name in texts.split(",")} - {""}
    known_names = [source.value for source in TextSource]
    unknown_names = names - {*known_names, "none"}
    if unknown_names or ("none" in names and len(names) > 1) or not names:
        raise UsageError(
            f"Invalid text sources {texts!r}.",
            f"Use one or more of {', '.join(known_names)}, or none.",
        )
    return tuple(source for source in TextSource if source.value in names)


def make_modalities(settings: Settings) -> tuple[Modality, ...]:
    """Return all modalities."""
    return tuple(
        plugins.load("modalities", name).build(max_pixels=settings.max_pixels)
        for name in plugins.names("modalities")
    )
