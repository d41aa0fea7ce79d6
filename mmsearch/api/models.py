"""Functions that list and open encoders, and set the default for new indexes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mmsearch.core.arguments import check_arguments
from mmsearch.core.errors import translate_os_errors
from mmsearch.core.protocols import Encoder
from mmsearch.core.settings import Settings, load_settings, save_setting
from mmsearch.core.types import ModelInfo
from mmsearch.factories.plugins import list_available_models, make_encoder


@translate_os_errors()
@check_arguments()
def list_models(settings: Settings | None = None) -> list[ModelInfo]:
    """Return all available models; each entry says if its weights are stored locally."""
    return list_available_models(settings or load_settings(), lambda line: None)


@translate_os_errors()
@check_arguments()
def open_model(
    name: str,
    *,
    device: str | None = None,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Encoder:
    """Open an encoder without an index; see `mmsearch.core.protocols.Encoder`.

    Args:
        name: Name of the model: ``starter``, ``open_clip:ARCH/TAG`` or ``open_clip:ARCH@FILE``.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        settings: Settings to use in place of the settings file and the environment.
        on_message: Called with a message before slow one-time work.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: The weights of the model are not available.
    """
    resolved_settings = (settings or load_settings()).with_flags(device=device)
    return make_encoder(name, resolved_settings, on_message or (lambda line: None))


@translate_os_errors()
@check_arguments()
def use_model(name: str, *, on_message: Callable[[str], None] | None = None) -> Path:
    """Make a model the default for new indexes, after checking that it is available.

    Args:
        name: Name of the model, see `open_model`, or ``auto``.
        on_message: Called with a message before slow one-time work.

    Returns:
        Path of the settings file.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: The weights of the model are not available.
    """
    if name != "auto":
        name = open_model(name, on_message=on_message).spec.name
    return save_setting("model", name)
