"""Encoder plugin for OpenCLIP models (https://github.com/mlfoundations/open_clip).

A model is named ``open_clip:ARCH/TAG`` (weights downloaded once from the hub) or
``open_clip:ARCH@FILE`` (a local checkpoint: a .safetensors file, or a .pt or .bin file with only
tensors). ARCH is one of open_clip's architectures, or the path of a JSON file that describes one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from mmsearch.core.errors import (
    Hint,
    MissingExtraError,
    ModelUnavailableError,
    UnknownNameError,
)
from mmsearch.core.files import expand_user
from mmsearch.core.protocols import Encoder
from mmsearch.core.types import EncoderOptions, EncoderSpec, ModelInfo
from mmsearch.encoders._known_models import KNOWN_MODELS, RECOMMENDED, find_known_model
from mmsearch.encoders._onnx.cache import ModelCache, TowerName, model_cache
from mmsearch.encoders._onnx.model import CompiledModel, LoadedModel, ModelSource
from mmsearch.encoders._tokenizer_files import (
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    is_plain_tokenizer,
)
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.storage.atomic import file_sha256

RECOMMENDED_VARIANT: Final = RECOMMENDED.variant

CODE_VERSION: Final = 1
"""Version of this code; increased when a change alters the vectors of unchanged weights."""

HUB_TIMEOUT_S: Final = 3.0
"""Timeout, in seconds, for checking that the model hub is reachable."""

# Parts of the names of architectures and weights that were trained on texts of many languages.
_MULTILINGUAL: Final = re.compile("xlm|nllb|siglip2|mt5|i18n|worldwide", re.IGNORECASE)

_WEIGHTS_FILENAMES: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def build(options: EncoderOptions) -> Encoder:
    """Return the encoder for ``options.variant``.

    Raises:
        UnknownNameError: The architecture or tag does not exist.
        ModelUnavailableError: The weights are not on this machine and cannot be downloaded.
    """
    name = parse_variant(options.variant)
    if name.file is not None and not name.file.is_file() and not _is_compiled(name, options):
        raise ModelUnavailableError(f"There is no checkpoint file {name.file}.")
    _check_suggested_model(name, options)
    return TwoTowerEncoder(_model_source(name, options), options)


def _model_source(
    name: ParsedVariant, options: EncoderOptions, weights: Path | None = None
) -> ModelSource:
    return ModelSource(
        name=f"open_clip:{name.variant}",
        slug=make_slug(name),
        sources=name.local_files,
        code_version=CODE_VERSION,
        load=partial(_load_model, name, options, weights),
        languages=() if _MULTILINGUAL.search(name.variant) else ("en",),
        has_weights=partial(has_weights, name, options),
    )


def compile_weights(variant: str, file: Path, options: EncoderOptions) -> EncoderSpec:
    """Compile the text and image towers of ``ARCH/TAG`` from a local file of its weights.

    Afterwards the model opens from the cache without the file, the hub and torch. Only a GPU, and
    vectors of patches and tokens, still need the weights. Towers that are compiled from the same
    weights already are kept.

    Args:
        variant: The model, ``ARCH/TAG``.
        file: Its weights. An architecture whose tokenizer is a file of the hub also needs
            tokenizer.json and tokenizer_config.json in the same folder, else they are downloaded.
        options: Options of the encoder; ``variant`` and ``device`` are ignored.

    Returns:
        The specification that the encoder ``open_clip:ARCH/TAG`` has from now on.

    Raises:
        UnknownNameError: The architecture or tag does not exist.
        ModelUnavailableError: The file is no checkpoint of the architecture.
        OSError: The cache cannot be written.
    """
    name = parse_variant(variant)
    if name.tag is None:
        raise UnknownNameError(f"{variant!r} names no weights of open_clip: ARCH/TAG is required.")
    source = replace(_model_source(name, options, file), weights_sha256=file_sha256(file))
    model = CompiledModel(source, replace(options, device="cpu"))
    return model.compile_missing((TowerName.TEXT, TowerName.IMAGE)).spec


def models(options: EncoderOptions) -> list[ModelInfo]:
    """Return the suggested models and those that are already on this machine.

    Any other ``ARCH/TAG`` of open_clip works as well.
    """
    infos = [find_model(replace(options, variant=model.variant)) for model in KNOWN_MODELS]
    infos += _list_compiled(options, {model.name for model in infos})
    return infos + list(_list_downloaded({model.name for model in infos}))


def find_model(options: EncoderOptions) -> ModelInfo:
    """Return what is known about the model of ``options.variant`` without opening it.

    Raises:
        UnknownNameError: The variant names no weights.
    """
    name = parse_variant(options.variant)
    known, compiled = find_known_model(name.variant), _is_compiled(name, options)
    if known is None:
        return ModelInfo(f"open_clip:{name.variant}", "", None, local=False, compiled=compiled)
    return ModelInfo(
        known.name,
        known.summary,
        known.dim,
        local=_is_in_hub_cache(known.repository),
        compiled=compiled,
        licence=known.licence,
        languages=known.languages,
        download_bytes=known.download_bytes,
        research_only=known.research_only,
    )


def is_ready(options: EncoderOptions) -> bool:
    """Return True if ``options.variant`` is compiled and undamaged."""
    cache = compiled_cache(options)
    manifest = cache.read()
    if manifest is None or manifest.spec.code_version != CODE_VERSION:
        return False
    towers = [manifest.towers.get(name) for name in (TowerName.TEXT, TowerName.IMAGE)]
    return all(
        tower is not None and cache.verify([manifest.tokenizer_file, *tower.files])
        for tower in towers
    )


def compiled_cache(options: EncoderOptions) -> ModelCache:
    """Return the cache of the compiled towers of ``options.variant``."""
    return model_cache(make_slug(parse_variant(options.variant)), options)


def find_repository(name: ParsedVariant) -> tuple[str, tuple[str, ...]]:
    """Return the hub repository of a variant's weights, and the names that the file may have.

    Raises:
        UnknownNameError: open_clip has no such weights, or they are not on the hub.
    """
    known = find_known_model(name.variant)
    if known is not None:
        return known.repository, (known.file,)
    check_architecture(name.architecture)
    from mmsearch.encoders import _open_clip_loader  # noqa: PLC0415 - imports torch

    return _open_clip_loader.find_repository(name.architecture, name.tag or "")


def tokenizer_repository(name: ParsedVariant) -> str | None:
    """Return the hub repository with the files of a tokenizer; None if open_clip contains it."""
    try:
        config = json.loads((_config_folder() / f"{name.architecture}.json").read_bytes())
        text_config = config["text_cfg"]
        return text_config["hf_tokenizer_name"] if is_plain_tokenizer(text_config) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_architecture(architecture: str) -> None:
    """Raise UnknownNameError if open_clip has no architecture of that name."""
    if architecture not in list_architectures():
        raise UnknownNameError(
            f"open_clip has no architecture {architecture!r}.", _suggest_names(architecture)
        )


def _list_compiled(options: EncoderOptions, listed_names: Collection[str]) -> Iterator[ModelInfo]:
    for path in sorted(model_cache("", options).folder.glob("open_clip-*/manifest.json")):
        manifest = ModelCache(path.parent).read()
        if manifest is not None and manifest.spec.name not in listed_names:
            yield ModelInfo(
                name=manifest.spec.name,
                summary="used on this machine before",
                dim=manifest.spec.dim,
                local=all(Path(source.path).exists() for source in manifest.sources),
                compiled=manifest.spec.code_version == CODE_VERSION,
            )


def _list_downloaded(listed_names: Collection[str]) -> Iterator[ModelInfo]:
    from huggingface_hub import constants  # noqa: PLC0415 - not needed by queries

    cached = {
        file.parents[2].name.removeprefix("models--").replace("--", "/", 1)
        for name in _WEIGHTS_FILENAMES
        for file in Path(constants.HF_HUB_CACHE).glob(f"models--*/snapshots/*/{name}")
    }
    repositories = cached - {model.repository for model in KNOWN_MODELS}
    if not repositories:
        return
    # Only open_clip's own list maps a repository to its model.
    from mmsearch.encoders._open_clip_loader import list_tags  # noqa: PLC0415 - imports torch

    for variant in list_tags(repositories):
        if f"open_clip:{variant}" not in listed_names:
            summary = "weights are already in the hub's cache"
            yield ModelInfo(f"open_clip:{variant}", summary, None, local=True, compiled=False)


def is_available(options: EncoderOptions) -> bool:
    """Return True if the recommended model is on this machine."""
    return _is_compiled(parse_variant(RECOMMENDED.variant), options) or _is_in_hub_cache(
        RECOMMENDED.repository
    )


@dataclass(frozen=True)
class ParsedVariant:
    """A parsed model variant; either ``tag`` or ``file`` is set, never both."""

    variant: str
    architecture: str
    tag: str | None
    file: Path | None

    @property
    def local_files(self) -> tuple[Path, ...]:
        """The local files that the model is built from: checkpoint, architecture, tokenizer."""
        if self.file is None:
            return ()
        config = [Path(self.architecture)] if self.architecture.endswith(".json") else []
        beside = [self.file.parent / name for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)]
        return (self.file, *config, *(path for path in beside if path.is_file()))


def parse_variant(variant: str) -> ParsedVariant:
    """Return the parts of a variant; empty is the recommended model.

    Raises:
        UnknownNameError: It names no weights.
    """
    if not variant:
        variant = RECOMMENDED_VARIANT
    if "@" in variant:
        architecture, _, file = variant.rpartition("@")
        path = expand_user(file).absolute()
        if architecture.endswith(".json"):
            architecture = str(expand_user(architecture).absolute())
        return ParsedVariant(f"{architecture}@{path}", architecture, None, path)
    architecture, slash, tag = variant.partition("/")
    if not slash or not tag:
        matching = [
            model.variant for model in KNOWN_MODELS if model.variant.startswith(f"{variant}/")
        ]
        hint = f"Try open_clip:{matching[0]}." if matching else _suggest_names(architecture)
        raise UnknownNameError(
            f"{variant!r} does not name any weights: ARCH/TAG or ARCH@FILE is required.", hint
        )
    return ParsedVariant(variant, architecture, tag, None)


def check_tokenizer_package(name: ParsedVariant) -> None:
    """Report a missing tokenizer library before the weights are downloaded.

    Raises:
        MissingExtraError: transformers, which the architecture needs, is not installed.
    """
    from importlib.util import find_spec  # noqa: PLC0415 - not needed by queries

    config = Path(name.architecture)
    if config.suffix != ".json":
        config = _config_folder() / f"{name.architecture}.json"
    try:
        text_config = json.loads(config.read_bytes())["text_cfg"]
        is_needed = bool(text_config.get("hf_tokenizer_name") or text_config.get("hf_model_name"))
        is_needed = is_needed and not is_plain_tokenizer(text_config)
    # The loader reports a file that cannot be used.
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    if is_needed and find_spec("transformers") is None:
        raise MissingExtraError(
            f"The tokenizer of open_clip:{name.variant} needs the Python package 'transformers', "
            "which is not installed.",
            "Install it with: pip install transformers",
        )


def _load_model(
    name: ParsedVariant, options: EncoderOptions, weights: Path | None = None
) -> LoadedModel:
    """Load a model in torch, from ``weights`` in place of the hub's cache if they are given."""
    weights = weights or find_kept_weights(name, options)
    check_tokenizer_package(name)
    from mmsearch.encoders import _open_clip_loader  # noqa: PLC0415 - imports torch

    if not name.architecture.endswith(".json"):
        check_architecture(name.architecture)
    if name.file is not None:
        return _open_clip_loader.load_checkpoint(
            name.variant, name.architecture, name.file, CODE_VERSION, offline=_is_offline(options)
        )
    return _open_clip_loader.load_pretrained(
        name.variant,
        name.architecture,
        name.tag or "",
        CODE_VERSION,
        hub_problem=None if weights else _find_hub_problem(options),
        on_message=options.on_message,
        file=weights,
    )


def kept_weights_folder(name: ParsedVariant, options: EncoderOptions) -> Path:
    """Return the folder where a pull keeps the weights that a GPU needs."""
    return model_cache(make_slug(name), options).folder / "weights"


def find_kept_weights(name: ParsedVariant, options: EncoderOptions) -> Path | None:
    """Return the weights that a pull has kept, or None."""
    folder = kept_weights_folder(name, options)
    files = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return files[0] if name.tag and files else None


def has_weights(name: ParsedVariant, options: EncoderOptions) -> bool:
    """Return True if the weights of a model are on this machine, or are not looked for."""
    known = find_known_model(name.variant)
    if known is None or find_kept_weights(name, options) is not None:
        return True
    return _is_in_hub_cache(known.repository)


def _check_suggested_model(name: ParsedVariant, options: EncoderOptions) -> None:
    """Report missing weights that cannot be downloaded, before torch is imported.

    Raises:
        ModelUnavailableError: The weights are not on this machine and cannot be downloaded.
    """
    repository = next(
        (model.repository for model in KNOWN_MODELS if model.variant == name.variant), None
    )
    if repository is None or _is_compiled(name, options) or _is_in_hub_cache(repository):
        return
    hub_problem = _find_hub_problem(options)
    if hub_problem is not None:
        raise weights_unavailable_error(name.variant, hub_problem)


def weights_unavailable_error(variant: str, reason: str) -> ModelUnavailableError:
    """Return the error for weights that are not on this machine.

    Args:
        variant: The model's name, as the user typed it.
        reason: Why they cannot be downloaded, as a clause.
    """
    architecture = variant.partition("/")[0]
    return ModelUnavailableError(
        f"The weights of open_clip:{variant} are not on this machine, and {reason}.",
        Hint(
            f"Connect to the internet once and use {{}}, or give a local checkpoint with "
            f"open_clip:{architecture}@FILE.",
            f"pull_model('open_clip:{variant}'), or use the built-in model with model='starter'",
            f"'mmsearch models pull open_clip:{variant}', or use the built-in model with "
            "--model starter",
        ),
        model=variant,
    )


def _find_hub_problem(options: EncoderOptions) -> str | None:
    """Return why nothing can be downloaded, as a clause; None if the hub answers."""
    if _is_offline(options):
        return "downloads are disabled (offline)"
    # The hub's own client retries for a minute and logs each attempt.
    return None if _is_hub_reachable() else "the model hub does not answer"


def _is_offline(options: EncoderOptions) -> bool:
    """Return True if the options or the hub's own environment variable forbid network access."""
    env_value = os.environ.get("HF_HUB_OFFLINE", "")
    return options.offline or env_value.upper() in {"1", "ON", "YES", "TRUE"}


def list_architectures() -> list[str]:
    """Return the names of open_clip's architectures without importing open_clip."""
    return sorted(path.stem for path in _config_folder().glob("*.json"))


def _config_folder() -> Path:
    """Return the folder of open_clip's architectures; one that is missing if it has none."""
    from importlib.util import find_spec  # noqa: PLC0415 - not needed by queries

    spec = find_spec("open_clip")
    locations = (spec.submodule_search_locations if spec else None) or ["/nonexistent"]
    return Path(locations[0]) / "model_configs"


def _suggest_names(name: str) -> str:
    import difflib  # noqa: PLC0415 - needed only for an unknown name

    matches = difflib.get_close_matches(name, list_architectures(), n=4, cutoff=0.4)
    if matches:
        return f"Similar names: {', '.join(matches)}."
    return Hint("See {}.", "mmsearch.list_models()", "'mmsearch models list'")


def make_slug(name: ParsedVariant) -> str:
    """Return a readable folder name that is unique to the variant."""
    readable_name = re.sub(r"[^A-Za-z0-9.-]+", "_", name.variant)[-80:]
    digest = hashlib.sha256(os.fsencode(name.variant)).hexdigest()[:8]
    return f"open_clip-{readable_name}-{digest}"


def _is_compiled(name: ParsedVariant, options: EncoderOptions) -> bool:
    manifest = model_cache(make_slug(name), options).read()
    return manifest is not None and manifest.spec.code_version == CODE_VERSION


def _is_in_hub_cache(repository: str) -> bool:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - not needed by queries

    return any(
        isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHTS_FILENAMES
    )


def _is_hub_reachable() -> bool:
    """Return True if the hub responds within `HUB_TIMEOUT_S`.

    The request runs in a thread because a DNS lookup cannot be given a timeout.
    """
    # Queries need none of these.
    import http.client  # noqa: PLC0415
    import threading  # noqa: PLC0415
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    from huggingface_hub import constants  # noqa: PLC0415

    reachable = threading.Event()

    def probe() -> None:
        try:
            request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
            with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):  # noqa: S310
                reachable.set()
        except urllib.error.HTTPError:
            reachable.set()
        except (OSError, ValueError, http.client.HTTPException):
            return

    threading.Thread(target=probe, daemon=True).start()
    return reachable.wait(HUB_TIMEOUT_S)
