"""Encoders by themselves, and which one new indexes use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmsearch.core.io_errors import translate_os_errors
from mmsearch.core.protocols import Encoder
from mmsearch.core.settings import Settings, load_settings, save_setting
from mmsearch.core.types import ModelInfo
from mmsearch.factories.encoders import list_available_models, make_encoder


@translate_os_errors()
def list_models(settings: Settings | None = None) -> list[ModelInfo]:
    """Every model that the encoders offer, and whether its weights are here."""
    return list_available_models(settings or load_settings(), lambda line: None)


@translate_os_errors()
def open_model(
    name: str,
    *,
    device: str | None = None,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Encoder:
    """An encoder by itself, as `mmsearch.core.protocols.Encoder`.

    Args:
        name: ``starter``, ``open_clip:ARCH/TAG`` or ``open_clip:ARCH@FILE``.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        settings: Instead of the settings file and the environment.
        on_message: Receives a line about anything slow that happens once.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its weights cannot be had.
    """
    resolved_settings = (settings or load_settings()).with_flags(device=device)
    return make_encoder(name, resolved_settings, on_message or (lambda line: None))


@translate_os_errors()
def use_model(name: str, *, on_message: Callable[[str], None] | None = None) -> Path:
    """Make a model the one of new indexes, after making sure that it can be had.

    Args:
        name: As for `open_model`, or ``auto``.
        on_message: Receives a line about anything slow that happens once.

    Returns:
        The settings file.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its weights cannot be had.
    """
    if name != "auto":
        name = open_model(name, on_message=on_message).spec.name
    return save_setting("model", name)
