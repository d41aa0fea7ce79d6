"""Models that are pulled from a hub, and compiled models as files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmsearch.core.errors import Hint, ModelUnavailableError, UsageError
from mmsearch.core.files import expand_user
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec, InputKind, ModelInfo
from mmsearch.factories.plugins import (
    OnMessage,
    choose_model,
    load_encoder_plugin,
    make_encoder,
    make_encoder_options,
    split_model_name,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mmsearch.encoders._archive import ModelArchive
    from mmsearch.encoders._pull import ModelPull

SHORT_NAMES = ("recommended", "small", "best")
"""Names of the models of the table that are chosen by what they are good for."""


def resolve_short_name(name: str) -> str:
    """Return the model that a short name stands for; other names are returned as they are."""
    from mmsearch.encoders import _known_models as table  # noqa: PLC0415 - only for pulls

    models = dict(zip(SHORT_NAMES, (table.RECOMMENDED, table.SMALL, table.BEST), strict=True))
    return models[name].name if name in models else name


def plan_pull(
    name: str, settings: Settings, on_message: OnMessage, *, sha256: str | None = None
) -> ModelPull:
    """Ask the hub about a model. See `mmsearch.plan_pull`."""
    plugin, variant = split_model_name(resolve_short_name(name))
    if plugin != "open_clip":
        raise _not_pullable_error(name)
    from mmsearch.encoders._pull import ModelPull  # noqa: PLC0415 - only for pulls

    return ModelPull(make_encoder_options(variant, settings, on_message), sha256=sha256)


def find_pullable_model(name: str, settings: Settings) -> ModelInfo:
    """Return what is known about a model of open_clip; ``compiled`` only if it is undamaged."""
    plugin, variant = split_model_name(resolve_short_name(name))
    from mmsearch.encoders import open_clip  # noqa: PLC0415 - only for pulls

    if plugin != "open_clip":
        raise _not_pullable_error(name)
    options = make_encoder_options(variant, settings, lambda line: None)
    return replace(open_clip.find_model(options), compiled=open_clip.is_ready(options))


def _not_pullable_error(name: str) -> UsageError:
    return UsageError(
        f"{name!r} is not a model of a hub; there is nothing to download.",
        Hint("Known models: {}.", "mmsearch.list_models()", "'mmsearch models list'"),
    )


def export_model(
    path: Path, name: str | None, settings: Settings, on_message: OnMessage
) -> ModelArchive:
    """Write a compiled model into a file. See `mmsearch.export_model`."""
    from mmsearch.encoders._archive import export_archive  # noqa: PLC0415 - only for exports

    model = name or choose_model(settings, lambda line: None)
    # A model that is not here is pulled on purpose, not by an export.
    settings = settings.with_flags(device="cpu", offline=True)
    try:
        encoder = make_encoder(model, settings, on_message)
    except ModelUnavailableError as error:
        raise ModelUnavailableError(
            f"{model} is not on this machine, so it cannot be exported.",
            Hint("Get it with: {}.", f"pull_model({model!r})", f"mmsearch models pull {model}"),
        ) from error
    # Both towers are in the file, even if only one was used before.
    encoder.encode(InputKind.TEXT, [encoder.prepare(InputKind.TEXT, "a photo of a dog")])
    pixels = np.zeros((64, 64, 3), np.uint8)
    encoder.encode(InputKind.IMAGE, [encoder.prepare(InputKind.IMAGE, pixels)])
    return export_archive(_compiled_cache(encoder.spec.name, settings), Path(os.path.abspath(path)))  # noqa: PTH100 - links stay


def import_model(path: Path, settings: Settings) -> ModelArchive:
    """Install the compiled model of a file. See `mmsearch.import_model`."""
    from mmsearch.encoders._archive import (  # noqa: PLC0415 - only for imports
        import_archive,
        read_archive,
    )

    return import_archive(path, _compiled_cache(read_archive(path).name, settings))


def _compiled_cache(name: str, settings: Settings) -> Any:
    plugin, variant = split_model_name(name)
    module: Any = load_encoder_plugin(plugin)
    if not hasattr(module, "compiled_cache"):
        hint = "Export its base model, and copy the adapter." if plugin == "adapted" else ""
        raise UsageError(f"Models of {plugin!r} have no compiled files to export.", hint)
    return module.compiled_cache(make_encoder_options(variant, settings, lambda line: None))


def save_adapter(
    path: Path,
    base: str | EncoderSpec,
    arrays: tuple[ArrayLike, ArrayLike, ArrayLike | None, ArrayLike | None],
    settings: Settings,
    on_message: OnMessage,
) -> str:
    """Write an adapter and return the name of its model. See `mmsearch.save_adapter`."""
    if not isinstance(base, str | EncoderSpec):
        raise UsageError(
            f"base must be the name of a model or an EncoderSpec, got {type(base).__name__}.",
            "See help(mmsearch.save_adapter).",
        )
    spec = make_encoder(base, settings, on_message).spec if isinstance(base, str) else base
    if split_model_name(spec.name)[0] == "adapted":
        raise UsageError(
            f"{spec.name} is an adapted model itself, which cannot be the base of another.",
            "Adapt its base model.",
        )
    from mmsearch.encoders._adapter import write_adapter  # noqa: PLC0415 - only for adapters

    path = expand_user(path).absolute()
    write_adapter(path, spec, *arrays)
    return f"adapted:{path}"
