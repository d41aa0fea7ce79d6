"""Parts by name: plugins, and what a setting says of them."""

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
    """The module of vector_indexes/ of that name."""
    plugin: VectorIndexPlugin = plugins.load("vector_indexes", name)
    return plugin


def check_vector_index_name(name: str) -> None:
    """Before any work is done for it.

    Raises:
        UnknownNameError: Neither a module of vector_indexes/ nor ``auto``.
    """
    if name != AUTO:
        plugins.load("vector_indexes", name, extra_names=(AUTO,))


def make_fusion(spec: FusionSpec) -> Fusion:
    """The fusion of that name and with those weights.

    Raises:
        UsageError: A weight out of range.
    """
    plugin: FusionPlugin = plugins.load("fusions", spec.name)
    return plugin.build(spec)


def make_rank_fusion(name: str) -> RankFusion:
    """The ranking of that name."""
    rank_fusion: RankFusion = plugins.load("rank_fusions", name).build()
    return rank_fusion


def parse_text_sources(texts: str) -> tuple[TextSource, ...]:
    """The sources of a setting such as ``sidecar,metadata``, in one order; none for ``none``.

    Raises:
        UsageError: There is no such source.
    """
    names = {name.strip().lower() for name in texts.split(",")} - {""}
    known_names = [source.value for source in TextSource]
    unknown_names = names - {*known_names, "none"}
    if unknown_names or ("none" in names and len(names) > 1) or not names:
        raise UsageError(
            f"{texts!r} does not say where texts come from.",
            f"Name some of {', '.join(known_names)}, or none.",
        )
    return tuple(source for source in TextSource if source.value in names)


def make_modalities(settings: Settings) -> tuple[Modality, ...]:
    """Every modality."""
    return tuple(
        plugins.load("modalities", name).build(max_pixels=settings.max_pixels)
        for name in plugins.names("modalities")
    )
