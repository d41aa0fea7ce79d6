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

Say = Callable[[str], None]

PRECISIONS = ("auto", "float32")


def encoder_plugin(name: str) -> EncoderPlugin:
    """The module of encoders/ of that name."""
    plugin: EncoderPlugin = plugins.load("encoders", name)
    return plugin


def encoder_options(variant: str, settings: Settings, say: Say) -> EncoderOptions:
    """What an encoder plugin needs to know."""
    offline = settings.offline or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    if settings.precision not in PRECISIONS:
        raise UsageError(
            f"Unknown precision {settings.precision!r}.", f"Choose one of {', '.join(PRECISIONS)}."
        )
    return EncoderOptions(
        variant, settings.device, settings.cache, offline, say, settings.precision
    )


def split_model(model: str) -> tuple[str, str]:
    """``plugin:variant`` in two; a name that is no plugin's is a variant of open_clip."""
    plugin, _, variant = model.partition(":")
    if plugins.exists("encoders", plugin):
        return plugin, variant
    return "open_clip", model


def make_encoder(model: str, settings: Settings, say: Say) -> Encoder:
    """The encoder of that name.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its weights cannot be had.
    """
    plugin, variant = split_model(model)
    return encoder_plugin(plugin).build(encoder_options(variant, settings, say))


def choose_model(settings: Settings, say: Say) -> str:
    """The model of a new index: the one that is set, or the best that can be had now."""
    if settings.model != "auto":
        return settings.model
    from mmsearch.encoders import open_clip  # noqa: PLC0415 - only a new index asks for it

    if open_clip.available(encoder_options("", settings, say)):
        return f"open_clip:{open_clip.RECOMMENDED}"
    say(
        f"Using the built-in model 'starter': the recommended open_clip:{open_clip.RECOMMENDED} is "
        "not on this machine and the model hub does not answer. It finds more; see "
        "'mmsearch models list'."
    )
    return "starter"


def offered_models(settings: Settings, say: Say) -> list[ModelInfo]:
    """Every model that the encoders offer."""
    found = []
    for name in sorted(plugins.names("encoders"), key=lambda name: name != "starter"):
        found += encoder_plugin(name).models(encoder_options("", settings, say))
    return found


def encoder_of(identity: Identity, settings: Settings, say: Say) -> Encoder:
    """The encoder that an index is bound to.

    Raises:
        EncoderMismatchError: Settings ask for another one, or its weights have changed.
    """
    name = identity.encoder.name
    if settings.model not in ("auto", name) and split_model(settings.model) != split_model(name):
        raise EncoderMismatchError(
            f"This index was built with {name!r}, not with {settings.model!r}.",
            "Leave out --model, or choose another index with --index NAME.",
        )
    encoder = make_encoder(name, settings, say)
    check_encoder(identity, encoder)
    return encoder
