"""Models by name: which one an index has, and its encoder."""

from __future__ import annotations

import os
from collections.abc import Callable

from mmsearch.core import plugins
from mmsearch.core.compatibility import check_encoder
from mmsearch.core.errors import EncoderMismatchError, UsageError
from mmsearch.core.protocols import Encoder, EncoderPlugin
from mmsearch.core.records import Identity
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderOptions, ModelInfo

OnMessage = Callable[[str], None]

PRECISIONS = ("auto", "float32")


def load_encoder_plugin(name: str) -> EncoderPlugin:
    """The module of encoders/ of that name."""
    plugin: EncoderPlugin = plugins.load("encoders", name)
    return plugin


def make_encoder_options(variant: str, settings: Settings, on_message: OnMessage) -> EncoderOptions:
    """What an encoder plugin needs to know."""
    offline = settings.offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    if settings.precision not in PRECISIONS:
        raise UsageError(
            f"Unknown precision {settings.precision!r}.", f"Choose one of {', '.join(PRECISIONS)}."
        )
    return EncoderOptions(
        variant, settings.device, settings.cache, offline, on_message, settings.precision
    )


def split_model_name(model: str) -> tuple[str, str]:
    """``plugin:variant`` in two; a name that is no plugin's is a variant of open_clip."""
    plugin, _, variant = model.partition(":")
    if plugins.exists("encoders", plugin):
        return plugin, variant
    return "open_clip", model


def make_encoder(model: str, settings: Settings, on_message: OnMessage) -> Encoder:
    """The encoder of that name.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its weights cannot be had.
    """
    plugin, variant = split_model_name(model)
    return load_encoder_plugin(plugin).build(make_encoder_options(variant, settings, on_message))


def choose_model(settings: Settings, on_message: OnMessage) -> str:
    """The model of a new index: the one that is set, or the best that can be had now."""
    if settings.model != "auto":
        return settings.model
    from mmsearch.encoders import open_clip  # noqa: PLC0415 - only a new index asks for it

    if open_clip.is_available(make_encoder_options("", settings, on_message)):
        return f"open_clip:{open_clip.RECOMMENDED_VARIANT}"
    on_message(
        f"Using the built-in model 'starter': the recommended open_clip:{open_clip.RECOMMENDED_VARIANT} is "
        "not on this machine and the model hub does not answer. It finds more; see "
        "'mmsearch models list'."
    )
    return "starter"


def list_available_models(settings: Settings, on_message: OnMessage) -> list[ModelInfo]:
    """Every model that the encoders offer."""
    infos = []
    for name in sorted(plugins.names("encoders"), key=lambda name: name != "starter"):
        infos += load_encoder_plugin(name).models(make_encoder_options("", settings, on_message))
    return infos


def load_index_encoder(identity: Identity, settings: Settings, on_message: OnMessage) -> Encoder:
    """The encoder that an index is bound to.

    Raises:
        EncoderMismatchError: Settings ask for another one, or its weights have changed.
    """
    name = identity.encoder.name
    if settings.model not in ("auto", name) and split_model_name(
        settings.model
    ) != split_model_name(name):
        raise EncoderMismatchError(
            f"This index was built with {name!r}, not with {settings.model!r}.",
            "Leave out --model, or choose another index with --index NAME.",
        )
    encoder = make_encoder(name, settings, on_message)
    check_encoder(identity, encoder)
    return encoder
