"""Creation of encoders and other plugins by name, and parsing of the settings that select them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from mmsearch.core import plugins
from mmsearch.core.errors import EncoderMismatchError, Hint, UsageError
from mmsearch.core.identity import Identity, check_encoder
from mmsearch.core.settings import Settings
from mmsearch.core.types import (
    MADE_SOURCES,
    EncoderOptions,
    FusionSpec,
    ModelInfo,
    TextSource,
)

if TYPE_CHECKING:
    from mmsearch.core.protocols import (
        Encoder,
        EncoderPlugin,
        Fusion,
        FusionPlugin,
        Modality,
        RankFusion,
        VectorIndexPlugin,
    )


def load_vector_index_plugin(name: str) -> VectorIndexPlugin:
    """Return the module of vector_indexes/ with a given name."""
    plugin: VectorIndexPlugin = plugins.load("vector_indexes", name)
    return plugin


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
    # Lines of subtitles never get a vector.
    others = MADE_SOURCES | {TextSource.SUBTITLES}
    known_names = [source.value for source in TextSource if source not in others]
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


OnMessage = Callable[[str], None]

PRECISIONS = ("auto", "float32")


def load_encoder_plugin(name: str) -> EncoderPlugin:
    """Return the module of encoders/ with a given name."""
    plugin: EncoderPlugin = plugins.load("encoders", name)
    return plugin


def make_encoder_options(variant: str, settings: Settings, on_message: OnMessage) -> EncoderOptions:
    """Return the options of an encoder plugin.

    Raises:
        UsageError: The precision is unknown.
    """
    offline = settings.offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    if settings.precision not in PRECISIONS:
        raise UsageError(
            f"Unknown precision {settings.precision!r}.", f"Choose one of {', '.join(PRECISIONS)}."
        )
    return EncoderOptions(
        variant, settings.device, settings.cache, offline, on_message, settings.precision
    )


def split_model_name(model: str) -> tuple[str, str]:
    """Split ``plugin:variant`` into plugin and variant.

    A name without the name of a plugin is a variant of open_clip.
    """
    plugin, _, variant = model.partition(":")
    if plugins.exists("encoders", plugin):
        return plugin, variant
    return "open_clip", model


def make_encoder(
    model: str, settings: Settings, on_message: OnMessage, fingerprint: str = ""
) -> Encoder:
    """Return the encoder of a model; see `EncoderOptions.fingerprint`.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its weights are not available.
    """
    plugin, variant = split_model_name(model)
    options = make_encoder_options(variant, settings, on_message)
    return load_encoder_plugin(plugin).build(replace(options, fingerprint=fingerprint))


def choose_model(settings: Settings, on_message: OnMessage) -> str:
    """Return the model of a new index: the configured one, or the best one available now."""
    if settings.model != "auto":
        return settings.model
    from mmsearch.encoders import open_clip  # noqa: PLC0415 - only a new index needs it

    if open_clip.is_available(make_encoder_options("", settings, on_message)):
        return f"open_clip:{open_clip.RECOMMENDED_VARIANT}"
    on_message("Using the built-in model 'starter'; 'mmsearch models list' shows better ones.")
    return "starter"


def list_available_models(settings: Settings, on_message: OnMessage) -> list[ModelInfo]:
    """Return every model that the encoders offer, those of starter first."""
    infos = []
    for name in sorted(plugins.names("encoders"), key=lambda name: name != "starter"):
        infos += load_encoder_plugin(name).models(make_encoder_options("", settings, on_message))
    return infos


def load_index_encoder(identity: Identity, settings: Settings, on_message: OnMessage) -> Encoder:
    """Return the encoder of an index.

    Raises:
        EncoderMismatchError: The settings name another model, or its weights have changed.
    """
    name = identity.encoder.name
    if settings.model not in ("auto", name) and split_model_name(
        settings.model
    ) != split_model_name(name):
        raise EncoderMismatchError(
            f"This index was built with {name!r}, not with {settings.model!r}.",
            Hint(
                "{}",
                "Leave out the model, or open another index.",
                "Leave out --model, or choose another index with --index NAME.",
            ),
        )
    encoder = make_encoder(name, settings, on_message, identity.encoder.fingerprint)
    check_encoder(identity, encoder)
    return encoder
