"""Functions that list, open, pull, export and import encoders, and set the default one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmsearch.api.progress import ProgressOption, open_progress
from mmsearch.core.arguments import check_arguments
from mmsearch.core.errors import translate_os_errors
from mmsearch.core.protocols import Encoder
from mmsearch.core.settings import Settings, load_settings, save_setting
from mmsearch.core.types import EncoderSpec, ModelInfo
from mmsearch.factories import models as model_factory
from mmsearch.factories.plugins import list_available_models, make_encoder

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from mmsearch.encoders._archive import ModelArchive
    from mmsearch.encoders._pull import ModelPull, PulledModel


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
        name: Name of the model: ``starter``, ``open_clip:ARCH/TAG``, ``open_clip:ARCH@FILE`` or
            ``adapted:FILE`` (see `save_adapter`).
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


@translate_os_errors()
@check_arguments()
def find_pullable_model(
    name: str = "recommended", *, settings: Settings | None = None
) -> ModelInfo:
    """Return what is known about a model of open_clip without asking a hub.

    Args:
        name: ``recommended``, ``small``, ``best`` or ``open_clip:ARCH/TAG``.
        settings: Settings to use in place of the settings file and the environment.

    Raises:
        UnknownNameError: The name does not say architecture and tag.
        UsageError: The model is not one of open_clip.
    """
    return model_factory.find_pullable_model(name, settings or load_settings())


@translate_os_errors()
@check_arguments()
def plan_pull(
    name: str = "recommended",
    *,
    sha256: str | None = None,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> ModelPull:
    """Ask the model hub about a model, without downloading it.

    The hub is ``$HF_ENDPOINT``, or else https://huggingface.co.

    Args:
        name: ``recommended``, ``small``, ``best`` or ``open_clip:ARCH/TAG``.
        sha256: Checksum that the weights must have, 64 hexadecimal digits, in place of the one
            that mmsearch knows or has recorded.
        settings: Settings to use in place of the settings file and the environment.
        on_message: Called with a message before a request is repeated.

    Returns:
        The licence, the size and the checksum of the model; its method ``run`` pulls it.

    Raises:
        UnknownNameError: There is no such model.
        UsageError: The model is not one of a hub, or the checksum is not one.
        ModelUnavailableError: The hub does not answer, refuses, or does not have the model.
        ChecksumError: The hub has other weights than mmsearch knows or has recorded.
    """
    return model_factory.plan_pull(
        name, settings or load_settings(), on_message or (lambda line: None), sha256=sha256
    )


@translate_os_errors()
@check_arguments()
def pull_model(
    name: str = "recommended",
    *,
    sha256: str | None = None,
    settings: Settings | None = None,
    progress: ProgressOption = False,
    on_message: Callable[[str], None] | None = None,
) -> PulledModel:
    """Download a model of open_clip, verify it, compile it, and keep only the compiled copy.

    If it is interrupted, the next call continues. New indexes use the model after `use_model`, an
    existing one after ``index.reindex(model=name)``.

    Args:
        name: See `plan_pull`.
        sha256: See `plan_pull`.
        settings: Settings to use in place of the settings file and the environment.
        progress: True shows a progress bar; a callable gets a `Progress` with the phases
            ``download``, in bytes, and ``compile``.
        on_message: Called with a message before slow one-time work.

    Raises:
        DownloadError: The connection was lost again and again; what has arrived is kept.
        ChecksumError: The weights are others than those expected; they are deleted.
        DiskFullError: There is too little space; what has arrived is kept.
        ModelUnavailableError: See `plan_pull`.
    """
    plan = plan_pull(name, sha256=sha256, settings=settings, on_message=on_message)
    with open_progress(progress) as report_progress:
        return plan.run(report_progress)


@translate_os_errors()
@check_arguments()
def export_model(
    path: Path,
    name: str | None = None,
    *,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> ModelArchive:
    """Write a compiled model into one file, for a machine without internet.

    Args:
        path: The file; it must not exist.
        name: Name of the model, see `open_model`; None for the one that a new index would use.
        settings: Settings to use in place of the settings file and the environment.
        on_message: Called with a message before slow one-time work.

    Raises:
        SourceError: The file exists, or its folder does not.
        ModelUnavailableError: The model is not on this machine.
        DiskFullError: There is too little space.
    """
    resolved_settings = settings or load_settings()
    return model_factory.export_model(
        path, name, resolved_settings, on_message or (lambda line: None)
    )


@translate_os_errors()
@check_arguments()
def import_model(path: Path, *, settings: Settings | None = None) -> ModelArchive:
    """Verify the model in a file of `export_model`, and install it.

    Args:
        path: The file.
        settings: Settings to use in place of the settings file and the environment.

    Raises:
        SourceError: The file is no exported model.
        ChecksumError: It is incomplete or was changed.
        ModelUnavailableError: It is of another version, or does not run on this machine.
        DiskFullError: There is too little space.
    """
    return model_factory.import_model(path, settings or load_settings())


@translate_os_errors()
@check_arguments()
def save_adapter(
    path: Path,
    base: str | EncoderSpec,
    image: ArrayLike,
    text: ArrayLike,
    image_bias: ArrayLike | None = None,
    text_bias: ArrayLike | None = None,
    *,
    settings: Settings | None = None,
    on_message: Callable[[str], None] | None = None,
) -> str:
    """Write an adapter: linear maps that make a new model of another one, its base.

    A vector v of a picture becomes ``image @ v + image_bias``, scaled to norm 1, and a vector of a
    text ``text @ v + text_bias``. An index of the base takes the new model without reading its
    pictures: ``index.reindex(model=mmsearch.save_adapter(...))``.

    Args:
        path: The file; its name ends with ``.safetensors``, and it must not exist.
        base: Name of the base, see `open_model`, or the specification of its encoder, such as
            ``index.status().identity.encoder``. It cannot be an adapted model itself.
        image: (dim, base dim), any type of float; stored as float32. dim is at most 4,096.
        text: (dim, base dim).
        image_bias: (dim,); None for zeros.
        text_bias: (dim,); None for zeros.
        settings: Settings to use in place of the settings file and the environment.
        on_message: Called with a message before slow one-time work.

    Returns:
        The name of the new model, ``adapted:PATH``.

    Raises:
        UsageError: An array has another shape or type, or a value that is not finite or above 1e6.
        SourceError: The file exists, or its folder does not.
        UnknownNameError: There is no such base.
        ModelUnavailableError: The weights of the base are not available.
    """
    return model_factory.save_adapter(
        path,
        base,
        (image, text, image_bias, text_bias),
        settings or load_settings(),
        on_message or (lambda line: None),
    )
