"""OpenCLIP models in torch. Imported only to compile, or for a GPU."""

from __future__ import annotations

import hashlib
import json
import os
import pickle  # noqa: TID251 - the error that torch raises for what it refuses to unpickle
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from huggingface_hub import constants as hub
from open_clip.pretrained import download_pretrained, get_pretrained_cfg

from mmsearch.core.errors import MissingExtraError, ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderSpec
from mmsearch.encoders._onnx.loaded import LoadedModel
from mmsearch.encoders._open_clip_towers import (
    CausalTextTower,
    ImageTower,
    patch_tower,
    text_tower,
    token_tower,
)
from mmsearch.encoders._preprocess import PixelPreparation
from mmsearch.encoders._tokenizer import TextPreparation, TokenizerFacts, clip_tokenizer_json
from mmsearch.storage.atomic import file_sha256

_PROMPTS: Final = (
    "a photo of a dog",
    "A RED car, isn't it? they'll say: we've 1234 of them!",
    "caf\u00e9 na\u00efve \u00fcber \u00c5ngstr\u00f6m",
    "\u732b\u306e\u5199\u771f \u4e00\u53ea\u72d7",
    "smile \U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 now",
    "fish &amp; chips &lt;b&gt;",
    "tabs\tand\nlines   and spaces ",
    "<start_of_text> snake_case <end_of_text>",
    "",
    "a very long text that goes on and on " * 40,
)


def load_tag(
    variant: str,
    architecture: str,
    tag: str,
    code_version: int,
    *,
    offline: bool,
    say: Callable[[str], None],
) -> LoadedModel:
    """Load a model with the weights of a tag.

    Args:
        variant: The model's name, as its user gives it.
        architecture: Of open_clip.
        tag: Of the architecture.
        code_version: For the model's fingerprint.
        offline: Make no connection.
        say: Takes what is worth saying.

    Raises:
        UnknownNameError: The architecture has no such tag.
        ModelUnavailableError: The weights are not here and cannot be fetched.
    """
    facts = get_pretrained_cfg(architecture, tag)
    if not facts:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UnknownNameError(
            f"open_clip has no weights {tag!r} for {architecture}.",
            f"Known: {', '.join(tags)}." if tags else "Give a file: open_clip:ARCH@FILE.",
        )
    file = _weights(variant, facts, offline, say)
    with _rules(offline):
        return _load(variant, architecture, file, facts, code_version)


def load_file(
    variant: str, architecture: str, file: Path, code_version: int, *, offline: bool
) -> LoadedModel:
    """Load a model with the weights of a local checkpoint.

    Args:
        variant: The model's name, as its user gives it.
        architecture: Of open_clip, or the path of a JSON file that describes one.
        file: The checkpoint.
        code_version: For the model's fingerprint.
        offline: Make no connection.

    Raises:
        ModelUnavailableError: The file cannot be read safely, or is not of this architecture.
        UnknownNameError: The architecture's JSON file cannot be used.
    """
    if architecture.endswith(".json"):
        architecture = _private_architecture(Path(architecture))
    with _rules(offline):
        return _load(variant, architecture, file, {}, code_version)


def tags_of(repositories: Collection[str]) -> list[str]:
    """Every ``ARCH/TAG`` whose weights are in one of these repositories of the hub."""
    return [
        f"{architecture}/{tag}"
        for architecture, tag in open_clip.list_pretrained()
        if os.path.split(get_pretrained_cfg(architecture, tag).get("hf_hub", ""))[0] in repositories
    ]


def _private_architecture(config: Path) -> str:
    """Make open_clip know an architecture under a name that no other one has.

    open_clip knows architectures by file name alone, for the whole process: under its own name,
    this one could take the place of another.
    """
    try:
        described = json.loads(config.read_bytes())
    except (OSError, ValueError) as error:
        raise UnknownNameError(
            f"The architecture file {config} cannot be read: {error}."
        ) from error
    parts = ("embed_dim", "vision_cfg", "text_cfg")
    if not isinstance(described, dict) or any(part not in described for part in parts):
        raise UnknownNameError(
            f"{config} does not describe an open_clip model.",
            f"It needs {', '.join(parts)}, as open_clip's own files have them.",
        )
    content = json.dumps(described, sort_keys=True)
    name = f"{config.stem}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            renamed = Path(folder) / f"{name}.json"
            renamed.write_text(content, encoding="utf-8")
            open_clip.add_model_config(renamed)
    return name


def _weights(
    variant: str, facts: Mapping[str, Any], offline: bool, say: Callable[[str], None]
) -> Path:
    """The weights file, from the hub's cache or the hub."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - not for local files

    repository, name = os.path.split(facts.get("hf_hub", ""))
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    names = [n for name in names for n in (str(Path(name).with_suffix(".safetensors")), name)]
    for candidate in names if repository else []:
        cached = try_to_load_from_cache(repository, candidate)
        if isinstance(cached, str):
            return Path(cached)
    if offline:
        raise _unavailable(variant, "the model hub may not be asked (offline)")
    say(f"Fetching the weights of open_clip:{variant}, once ...")
    try:
        return Path(download_pretrained(dict(facts)))
    # The hub's client raises errors of several HTTP libraries.
    except Exception as error:
        raise _unavailable(variant, "the model hub does not answer") from error


def _unavailable(variant: str, why: str) -> ModelUnavailableError:
    architecture = variant.partition("/")[0]
    return ModelUnavailableError(
        f"The weights of open_clip:{variant} are not on this machine, and {why}.",
        f"Connect to the internet once, give a local checkpoint with "
        f"open_clip:{architecture}@FILE, or use the built-in model with --model starter.",
        model=variant,
    )


def _load(
    variant: str, architecture: str, file: Path, tag_facts: Mapping[str, Any], code_version: int
) -> LoadedModel:
    model = _model(variant, architecture, file, tag_facts)
    pixels = open_clip.get_model_preprocess_cfg(model)
    preparation = _preparation(variant, pixels)
    tokenizer, facts, tokenizer_json = _tokenizer(variant, architecture)
    _check_tokens(variant, tokenizer, facts, tokenizer_json)
    image_tower = ImageTower(model, pixels["mean"], pixels["std"])
    with torch.inference_mode():
        edge = preparation.size_px
        dim = image_tower(torch.zeros((1, edge, edge, 3), dtype=torch.uint8)).shape[1]
    spec = EncoderSpec(
        name=f"open_clip:{variant}",
        dim=int(dim),
        weights_sha256=file_sha256(file),
        preprocessing={
            **preparation.facts(),
            "architecture": architecture,
            "mean": list(pixels["mean"]),
            "std": list(pixels["std"]),
        },
        code_version=code_version,
        context_length=facts.context_length,
    )
    words = text_tower(model, tokenizer(list(_PROMPTS)))
    facts = replace(facts, pads_to_longest=isinstance(words, CausalTextTower))
    patches = patch_tower(image_tower.eval())
    return LoadedModel(
        spec, preparation, facts, tokenizer_json, image_tower, words, patches, token_tower(words)
    )


def _model(variant: str, architecture: str, file: Path, tag_facts: Mapping[str, Any]) -> Any:
    wanted = ("mean", "std", "interpolation", "resize_mode")
    try:
        return open_clip.create_model(
            architecture,
            pretrained=str(file),
            device="cpu",
            weights_only=True,
            force_quick_gelu=bool(tag_facts.get("quick_gelu", False)),
            force_preprocess_cfg={key: tag_facts[key] for key in wanted if key in tag_facts},
        ).eval()
    except pickle.UnpicklingError as error:
        raise ModelUnavailableError(
            f"{file} holds more than tensors and is not loaded, since that could run its code.",
            "Convert it to .safetensors on a machine that trusts it.",
        ) from error
    # Foreign checkpoints fail in many ways: keys, shapes, headers, archives.
    except Exception as error:
        text = str(error).strip().splitlines()
        typed = variant.rpartition("@")[0] or architecture
        raise ModelUnavailableError(
            f"{file} cannot be loaded as a checkpoint of {typed}: "
            f"{text[0][:200] if text else type(error).__name__}"
        ) from error


def _preparation(variant: str, pixels: Mapping[str, Any]) -> PixelPreparation:
    size = pixels["size"]
    sides = set(size) if isinstance(size, tuple | list) else {size}
    if len(sides) > 1:
        raise ModelUnavailableError(
            f"open_clip:{variant} reads pictures of {size} pixels; only squares are supported.",
            "Choose another model: mmsearch models list.",
        )
    return PixelPreparation(
        size_px=int(sides.pop()),
        resize_mode=pixels["resize_mode"],
        interpolation=pixels["interpolation"],
        fill=int(pixels["fill_color"]),
    )


@contextmanager
def _rules(offline: bool) -> Iterator[None]:
    """Forbid torch.load to run code, and the hub to be asked, whatever open_clip passes on."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before, hub_before = os.environ.get(name), hub.HF_HUB_OFFLINE
    os.environ[name] = "1"
    hub.HF_HUB_OFFLINE = offline or hub_before
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.HF_HUB_OFFLINE = hub_before
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _tokenizer(variant: str, architecture: str) -> tuple[Any, TokenizerFacts, str]:
    try:
        tokenizer = open_clip.get_tokenizer(architecture)
    except ImportError as error:
        missing = error.name or "transformers"
        raise MissingExtraError(
            f"The tokenizer of open_clip:{variant} needs the Python package {missing!r}, which is "
            "not installed.",
            f"Install it with: pip install {missing}",
        ) from error
    # transformers fails in many ways when it may not or cannot ask the hub.
    except Exception as error:
        raise ModelUnavailableError(
            f"The tokenizer of open_clip:{variant} is not on this machine and cannot be fetched.",
            "Connect to the internet once, or use the built-in model with --model starter.",
            model=variant,
        ) from error
    cleaning = tokenizer.clean_fn.__name__.removeprefix("_clean_")
    if hasattr(tokenizer, "bpe_ranks"):
        start, end = (
            tokenizer.decoder[i] for i in (tokenizer.sot_token_id, tokenizer.eot_token_id)
        )
        stored = clip_tokenizer_json(tokenizer.encoder, list(tokenizer.bpe_ranks), start, end)
        pad, end_id = 0, tokenizer.eot_token_id
    else:
        stored = tokenizer.tokenizer.backend_tokenizer.to_str()
        pad, end_id = tokenizer.tokenizer.pad_token_id, _closing_id(tokenizer.tokenizer)
    facts = TokenizerFacts(
        context_length=int(tokenizer.context_length),
        clean=cleaning,
        pad_id=int(pad),
        end_id=end_id,
        pads_to_longest=False,
        takes_mask=False,
    )
    return tokenizer, facts, stored


def _closing_id(tokenizer: Any) -> int | None:
    """The special token that ends every text, if there is one."""
    last = tokenizer("a").input_ids[-1]
    return int(last) if last in tokenizer.all_special_ids else None


def _check_tokens(variant: str, tokenizer: Any, facts: TokenizerFacts, tokenizer_json: str) -> None:
    """Refuse a tokenizer that we cannot reproduce token for token."""
    mine = TextPreparation(facts, tokenizer_json)
    for prompt in _PROMPTS:
        theirs = tokenizer([prompt])[0].tolist()
        ours = mine.inputs([mine.prepare(prompt)])[0][0].tolist()
        if ours != theirs:
            raise ModelUnavailableError(
                f"The tokenizer of open_clip:{variant} cannot be reproduced: it reads "
                f"{prompt[:40]!r} in another way.",
                "Choose another model: mmsearch models list.",
            )
