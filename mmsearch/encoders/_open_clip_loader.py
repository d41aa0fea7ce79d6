"""Load OpenCLIP models in torch; imported only to compile a model or to run it on a GPU."""

from __future__ import annotations

import hashlib
import json
import os
import pickle  # noqa: TID251 - only for the error that torch raises on unsafe files
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from huggingface_hub import constants as hub
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH
from open_clip.transformer import VisionTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmsearch.core.errors import Hint, MissingExtraError, ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderSpec
from mmsearch.encoders._onnx.model import LoadedModel
from mmsearch.encoders._preprocess import PixelPreprocessor
from mmsearch.encoders._tokenizer import TextTokenizer, TokenizerConfig, build_clip_tokenizer_json
from mmsearch.encoders._tokenizer_files import (
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
    is_plain_tokenizer,
    read_tokenizer,
)
from mmsearch.encoders.open_clip import weights_unavailable_error
from mmsearch.storage.atomic import file_sha256

TEXT_TOWER_TOLERANCE = 1e-5
"""Largest absolute difference allowed between `CausalTextTower` and the model's own output."""

_PREPROCESSING_KEYS: Final = ("mean", "std", "interpolation", "resize_mode")

_TOKENIZER_CHECK_TEXTS: Final = (
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


def load_pretrained(
    variant: str,
    architecture: str,
    tag: str,
    code_version: int,
    *,
    hub_problem: str | None,
    on_message: Callable[[str], None],
    file: Path | None = None,
) -> LoadedModel:
    """Load a model with the weights of a tag.

    Args:
        variant: The model's name, as the user typed it.
        architecture: Name of an open_clip architecture.
        tag: Name of pretrained weights of the architecture.
        code_version: Version of the loading code; part of the model's fingerprint.
        hub_problem: Why nothing can be downloaded, as a clause; None if it can.
        on_message: Called with progress messages for the user.
        file: The weights, if they are not to be taken from the hub or its cache.

    Raises:
        UnknownNameError: The architecture has no such tag.
        ModelUnavailableError: The weights are not on this machine and cannot be downloaded.
    """
    pretrained_cfg = _find_pretrained(architecture, tag)
    if file is None:
        file = _find_weights(variant, pretrained_cfg, hub_problem, on_message)
    with _safe_loading(hub_problem is not None):
        return _load_model(variant, architecture, file, pretrained_cfg, code_version)


def load_checkpoint(
    variant: str, architecture: str, file: Path, code_version: int, *, offline: bool
) -> LoadedModel:
    """Load a model with the weights of a local checkpoint.

    Args:
        variant: The model's name, as the user typed it.
        architecture: Name of an open_clip architecture, or the path of a JSON file that describes
            one.
        file: Path of the checkpoint.
        code_version: Version of the loading code; part of the model's fingerprint.
        offline: Forbid network connections.

    Raises:
        ModelUnavailableError: The file cannot be read safely, or does not fit the architecture.
        UnknownNameError: The architecture's JSON file cannot be read or is incomplete.
    """
    pretrained_cfg: Mapping[str, Any] = {}
    if architecture.endswith(".json"):
        architecture = _register_architecture(Path(architecture))
    else:
        pretrained_cfg = _common_preprocessing(architecture)
    with _safe_loading(offline):
        return _load_model(variant, architecture, file, pretrained_cfg, code_version)


def list_tags(repositories: Collection[str]) -> list[str]:
    """Return every ``ARCH/TAG`` whose weights are in one of the given hub repositories."""
    return [
        f"{architecture}/{tag}"
        for architecture, tag in open_clip.list_pretrained()
        if os.path.split(get_pretrained_cfg(architecture, tag).get("hf_hub", ""))[0] in repositories
    ]


def find_repository(architecture: str, tag: str) -> tuple[str, tuple[str, ...]]:
    """Return the hub repository of a tag's weights, and the names that the file may have.

    Raises:
        UnknownNameError: The architecture has no such tag, or its weights are not on the hub.
    """
    repository, filenames = _hub_files(_find_pretrained(architecture, tag))
    if not repository:
        raise UnknownNameError(
            f"The weights {tag!r} of {architecture} are not on the model hub.",
            "Download them yourself and use open_clip:ARCH@FILE.",
        )
    return repository, tuple(filenames)


def _find_pretrained(architecture: str, tag: str) -> Mapping[str, Any]:
    """Return what open_clip knows about a tag.

    Raises:
        UnknownNameError: The architecture has no such tag.
    """
    pretrained_cfg: Mapping[str, Any] = get_pretrained_cfg(architecture, tag)
    if not pretrained_cfg:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise UnknownNameError(
            f"open_clip has no weights {tag!r} for {architecture}.",
            f"Known tags: {', '.join(tags)}."
            if tags
            else "Use a local checkpoint: open_clip:ARCH@FILE.",
        )
    return pretrained_cfg


def _hub_files(pretrained_cfg: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the hub repository of weights and the names that the file may have, best first."""
    repository, name = os.path.split(pretrained_cfg.get("hf_hub", ""))
    names = [name] if name else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    candidates = [n for name in names for n in (str(Path(name).with_suffix(".safetensors")), name)]
    return repository, list(dict.fromkeys(candidates))


def _common_preprocessing(architecture: str) -> dict[str, Any]:
    """Return the preprocessing of pictures in which all weights of an architecture agree.

    A checkpoint does not say how its pictures were normalised: SigLIP's were not as CLIP's are.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    configs = [get_pretrained_cfg(architecture, tag) for tag in tags]
    return {
        key: configs[0][key]
        for key in (_PREPROCESSING_KEYS if configs else ())
        if key in configs[0] and all(c.get(key) == configs[0][key] for c in configs)
    }


def _register_architecture(config: Path) -> str:
    """Register an architecture with open_clip and return the unique name given to it.

    open_clip identifies architectures by file name for the whole process, so the file's own name
    could replace another architecture. The unique name includes a digest of the content.
    """
    try:
        model_config = json.loads(config.read_bytes())
    except (OSError, ValueError) as error:
        raise UnknownNameError(
            f"The architecture file {config} cannot be read: {error}."
        ) from error
    required_keys = ("embed_dim", "vision_cfg", "text_cfg")
    if not isinstance(model_config, dict) or any(key not in model_config for key in required_keys):
        raise UnknownNameError(
            f"{config} does not describe an open_clip model.",
            f"Add the keys {', '.join(required_keys)}, as in open_clip's own files.",
        )
    content = json.dumps(model_config, sort_keys=True)
    name = f"{config.stem}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    if name not in open_clip.list_models():
        with tempfile.TemporaryDirectory() as folder:
            config_copy = Path(folder) / f"{name}.json"
            config_copy.write_text(content, encoding="utf-8")
            open_clip.add_model_config(config_copy)
    return name


def _find_weights(
    variant: str,
    pretrained_cfg: Mapping[str, Any],
    hub_problem: str | None,
    on_message: Callable[[str], None],
) -> Path:
    """Return the path of the weights file, downloading it if the hub's cache lacks it."""
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - not needed for local files

    repository, names = _hub_files(pretrained_cfg)
    for candidate in names if repository else []:
        cached = try_to_load_from_cache(repository, candidate)
        if isinstance(cached, str):
            return Path(cached)
    if hub_problem is not None:
        raise weights_unavailable_error(variant, hub_problem)
    on_message(f"Downloading the weights of open_clip:{variant} (only once) ...")
    try:
        return Path(download_pretrained(dict(pretrained_cfg)))
    # The hub's client raises errors of several HTTP libraries.
    except Exception as error:
        raise weights_unavailable_error(
            variant, "they could not be downloaded from the model hub"
        ) from error


def _load_model(
    variant: str,
    architecture: str,
    file: Path,
    pretrained_cfg: Mapping[str, Any],
    code_version: int,
) -> LoadedModel:
    model = _create_model(variant, architecture, file, pretrained_cfg)
    preprocess_cfg = open_clip.get_model_preprocess_cfg(model)
    preprocessor = _make_preprocessor(variant, preprocess_cfg)
    facts, tokenizer_json = _load_tokenizer(variant, architecture, file.parent)
    image_tower = make_image_tower(model, preprocess_cfg["mean"], preprocess_cfg["std"])
    with torch.inference_mode():
        edge_px = preprocessor.size_px
        dim = image_tower(torch.zeros((1, edge_px, edge_px, 3), dtype=torch.uint8)).shape[1]
    spec = EncoderSpec(
        name=f"open_clip:{variant}",
        dim=int(dim),
        weights_sha256=file_sha256(file),
        preprocessing={
            **asdict(preprocessor),
            "architecture": architecture,
            "mean": list(preprocess_cfg["mean"]),
            "std": list(preprocess_cfg["std"]),
        },
        code_version=code_version,
        context_length=facts.context_length,
    )
    tokenizer = TextTokenizer(facts, tokenizer_json)
    ids = tokenizer.pad_batch([tokenizer.prepare(text) for text in _TOKENIZER_CHECK_TEXTS])[0]
    text_module = make_text_tower(model, torch.from_numpy(ids))
    facts = replace(facts, pads_to_longest=isinstance(text_module, CausalTextTower))
    return LoadedModel(spec, preprocessor, facts, tokenizer_json, image_tower, text_module)


def _create_model(
    variant: str, architecture: str, file: Path, pretrained_cfg: Mapping[str, Any]
) -> Any:
    try:
        return open_clip.create_model(
            architecture,
            pretrained=str(file),
            device="cpu",
            weights_only=True,
            force_quick_gelu=bool(pretrained_cfg.get("quick_gelu", False)),
            force_preprocess_cfg={
                key: pretrained_cfg[key] for key in _PREPROCESSING_KEYS if key in pretrained_cfg
            },
        ).eval()
    except pickle.UnpicklingError as error:
        raise ModelUnavailableError(
            f"{file} contains more than tensors; it is not loaded because it could run code.",
            "Convert it to .safetensors on a machine where you trust the file.",
        ) from error
    # Arbitrary checkpoints fail in many ways: keys, shapes, headers, archives.
    except Exception as error:
        text = str(error).strip().splitlines()
        display_name = variant.rpartition("@")[0] or architecture
        raise ModelUnavailableError(
            f"{file} cannot be loaded as a checkpoint of {display_name}: "
            f"{text[0][:200] if text else type(error).__name__}"
        ) from error


def _make_preprocessor(variant: str, preprocess_cfg: Mapping[str, Any]) -> PixelPreprocessor:
    size = preprocess_cfg["size"]
    sides = set(size) if isinstance(size, tuple | list) else {size}
    if len(sides) > 1:
        raise ModelUnavailableError(
            f"open_clip:{variant} expects pictures of {size} pixels; only squares are supported.",
            Hint("Choose another model: {}.", "mmsearch.list_models()", "mmsearch models list"),
        )
    return PixelPreprocessor(
        size_px=int(sides.pop()),
        resize_mode=preprocess_cfg["resize_mode"],
        interpolation=preprocess_cfg["interpolation"],
        fill=int(preprocess_cfg["fill_color"]),
    )


@contextmanager
def _safe_loading(offline: bool) -> Iterator[None]:
    """Forbid code execution in torch.load and, if offline, network access.

    Both hold regardless of the arguments that open_clip passes on.
    """
    variable = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    previous, hub_previous = os.environ.get(variable), hub.HF_HUB_OFFLINE
    os.environ[variable] = "1"
    hub.HF_HUB_OFFLINE = offline or hub_previous
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hub.HF_HUB_OFFLINE = hub_previous
        if previous is None:
            del os.environ[variable]
        else:
            os.environ[variable] = previous


def _load_tokenizer(variant: str, architecture: str, folder: Path) -> tuple[TokenizerConfig, str]:
    """Return the settings and the definition of an architecture's tokenizer.

    Args:
        variant: The model's name, as the user typed it.
        architecture: Name of an open_clip architecture.
        folder: Folder of the checkpoint, which may also contain the files of the tokenizer.
    """
    text_config = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
    if is_plain_tokenizer(text_config):
        tokenizer_folder = _find_tokenizer(variant, text_config["hf_tokenizer_name"], folder)
        try:
            files = read_tokenizer(tokenizer_folder)
        except (OSError, ValueError) as error:
            raise ModelUnavailableError(
                f"The tokenizer of open_clip:{variant} cannot be read: {error}"
            ) from error
        kwargs = text_config.get("tokenizer_kwargs", {})
        return TokenizerConfig(
            context_length=int(text_config.get("context_length", DEFAULT_CONTEXT_LENGTH)),
            clean=kwargs.get("clean", "whitespace"),
            pad_id=files.pad_id,
            end_id=files.end_id,
            pads_to_longest=False,
            takes_mask=False,
            stripped_id=files.separator_id if kwargs.get("strip_sep_token") else None,
        ), files.json
    tokenizer, config, tokenizer_json = _load_own_tokenizer(variant, architecture)
    _check_tokenizer(variant, tokenizer, config, tokenizer_json)
    return config, tokenizer_json


def _find_tokenizer(variant: str, name: str, folder: Path) -> Path:
    """Return the folder that contains a tokenizer, downloading it if the hub's cache lacks it."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - not needed for local files

    names = (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE)
    for candidate in (folder, Path(name)):
        if all((candidate / file).is_file() for file in names):
            return candidate
    try:
        files = [Path(hf_hub_download(name, file)) for file in names]
    # The hub's client raises errors of several HTTP libraries.
    except Exception as error:
        raise _tokenizer_unavailable_error(variant) from error
    return files[0].parent


def _tokenizer_unavailable_error(variant: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"The tokenizer of open_clip:{variant} is not on this machine and could not be downloaded.",
        Hint(
            f"Connect to the internet once, copy {TOKENIZER_FILE} and {TOKENIZER_CONFIG_FILE} into "
            "the folder of the checkpoint, or use the built-in model with {}.",
            "model='starter'",
            "--model starter",
        ),
        model=variant,
    )


def _load_own_tokenizer(variant: str, architecture: str) -> tuple[Any, TokenizerConfig, str]:
    """Return open_clip's tokenizer, and the settings and definition that reproduce it."""
    try:
        tokenizer = open_clip.get_tokenizer(architecture)
    except ImportError as error:
        missing = error.name or "transformers"
        raise MissingExtraError(
            f"The tokenizer of open_clip:{variant} needs the Python package {missing!r}, which is "
            "not installed.",
            f"Install it with: pip install {missing}",
        ) from error
    # transformers raises many kinds of errors when the hub is forbidden or unreachable.
    except Exception as error:
        raise _tokenizer_unavailable_error(variant) from error
    clean_mode = tokenizer.clean_fn.__name__.removeprefix("_clean_")
    if hasattr(tokenizer, "bpe_ranks"):
        start, end = (
            tokenizer.decoder[i] for i in (tokenizer.sot_token_id, tokenizer.eot_token_id)
        )
        tokenizer_json = build_clip_tokenizer_json(
            tokenizer.encoder, list(tokenizer.bpe_ranks), start, end
        )
        pad, end_id = 0, tokenizer.eot_token_id
    else:
        tokenizer_json = tokenizer.tokenizer.backend_tokenizer.to_str()
        pad, end_id = tokenizer.tokenizer.pad_token_id, _end_token_id(tokenizer.tokenizer)
    tokenizer_config = TokenizerConfig(
        context_length=int(tokenizer.context_length),
        clean=clean_mode,
        pad_id=int(pad),
        end_id=end_id,
        pads_to_longest=False,
        takes_mask=False,
    )
    return tokenizer, tokenizer_config, tokenizer_json


def _end_token_id(tokenizer: Any) -> int | None:
    """Return the id of the special token that ends every text, or None without one."""
    last = tokenizer("a").input_ids[-1]
    return int(last) if last in tokenizer.all_special_ids else None


def _check_tokenizer(
    variant: str, tokenizer: Any, tokenizer_config: TokenizerConfig, tokenizer_json: str
) -> None:
    """Reject a tokenizer that `TextTokenizer` does not reproduce token for token."""
    reproduced = TextTokenizer(tokenizer_config, tokenizer_json)
    for prompt in _TOKENIZER_CHECK_TEXTS:
        expected_ids = tokenizer([prompt])[0].tolist()
        ids = reproduced.pad_batch([reproduced.prepare(prompt)])[0][0].tolist()
        if ids != expected_ids:
            raise ModelUnavailableError(
                f"The tokenizer of open_clip:{variant} cannot be reproduced: it tokenizes "
                f"{prompt[:40]!r} differently.",
                Hint("Choose another model: {}.", "mmsearch.list_models()", "mmsearch models list"),
            )


# --- towers in the form that is compiled: preprocessed input to unit vectors ---


class ImageTower(nn.Module):
    """An image tower that maps preprocessed pictures to unit vectors and normalises the pixels."""

    mean: Tensor
    scale: Tensor

    def __init__(self, model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model.visual
        self.register_buffer("mean", torch.tensor(mean) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(std) * 255))

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode pictures, uint8 (n, s, s, 3), as float32 (n, dim) with unit rows."""
        vectors = self.model(self.normalize_pixels(pictures))
        # CoCa's tower also returns the tokens for its decoder.
        vectors = vectors[0] if isinstance(vectors, tuple) else vectors
        return normalize(vectors, dim=-1)

    def normalize_pixels(self, pictures: Tensor) -> Tensor:
        """Convert uint8 (n, s, s, 3) to float32 (n, 3, s, s), normalised as in training."""
        return ((pictures.float() - self.mean) * self.scale).permute(0, 3, 1, 2)


class PatchImageTower(ImageTower):
    """The tower of a vision transformer whose projection applies to patches, too."""

    def parts(self, pictures: Tensor) -> Tensor:
        """Encode the p patches of pictures as float32 (n * p, dim) with unit rows."""
        previous, self.model.output_tokens = self.model.output_tokens, True
        try:
            _, tokens = self.model(self.normalize_pixels(pictures))
        finally:
            self.model.output_tokens = previous
        return normalize(tokens.flatten(0, 1) @ self.model.proj, dim=-1)


class CausalTextTower(nn.Module):
    """A CLIP text tower with causal attention, pooled at the end-of-text token.

    Tokens after the end do not affect the result, so a batch may be padded to its longest text.
    """

    attn_mask: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        text = getattr(model, "text", model)
        self.transformer = text.transformer
        self.token_embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.register_buffer("attn_mask", text.attn_mask, persistent=False)
        self.pool_type = _pool_type(model)
        self.end_id = getattr(model, "text_eos_id", getattr(text, "eos_id", None))

    def hidden_states(self, ids: Tensor) -> Tensor:
        """Return the hidden states, float32 (n, t, width), of token ids, int64 (n, t).

        Each token sees only itself and the tokens before it.
        """
        length = ids.shape[1]
        hidden_states = self.token_embedding(ids) + self.positional_embedding[:length]
        hidden_states = self.transformer(hidden_states, attn_mask=self.attn_mask[:length, :length])
        final: Tensor = self.ln_final(hidden_states)
        return final

    def project(self, hidden_states: Tensor) -> Tensor:
        """Project hidden states, float32 (n, width), to float32 (n, dim) with unit rows."""
        if isinstance(self.text_projection, nn.Linear):
            hidden_states = self.text_projection(hidden_states)
        elif self.text_projection is not None:
            hidden_states = hidden_states @ self.text_projection
        return normalize(hidden_states, dim=-1)

    def forward(self, ids: Tensor) -> Tensor:
        """Encode token ids, int64 (n, t), as float32 (n, dim) with unit rows."""
        hidden_states = self.hidden_states(ids)
        return self.project(
            text_global_pool(hidden_states, ids, self.pool_type, eos_token_id=self.end_id)
        )

    def parts(self, ids: Tensor) -> Tensor:
        """Encode each token as if the text ended there, as float32 (n * t, dim) with unit rows."""
        return self.project(self.hidden_states(ids).flatten(0, 1))


class FullTextTower(nn.Module):
    """A text tower of any other kind; its input is padded to the full context length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """Encode token ids, int64 (n, context length), as float32 (n, dim) with unit rows."""
        return normalize(self.model.encode_text(ids), dim=-1)


def _pool_type(model: Any) -> str:
    text = getattr(model, "text", model)
    return str(getattr(model, "text_pool_type", getattr(text, "pool_type", "")))


def make_image_tower(model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> ImageTower:
    """Return a `PatchImageTower` if patches are in the model's embedding space."""
    visual = model.visual
    has_projection = isinstance(visual, VisionTransformer) and visual.proj is not None
    has_patches = has_projection and visual.attn_pool is None
    return (PatchImageTower if has_patches else ImageTower)(model, mean, std).eval()


def make_text_tower(model: Any, ids: Tensor) -> CausalTextTower | FullTextTower:
    """Return a `CausalTextTower` if it reproduces the model's text tower, else a `FullTextTower`.

    Args:
        model: Any open_clip model.
        ids: Token ids of the texts to compare both towers on, int64 (n, context length).
    """
    full = FullTextTower(model).eval()
    if not _is_causal(model):
        return full
    causal = CausalTextTower(model).eval()
    # A tower may have the parts of a causal one and still use them differently.
    with torch.inference_mode():
        is_equivalent = torch.allclose(causal(ids), full(ids), rtol=0, atol=TEXT_TOWER_TOLERANCE)
    return causal if is_equivalent else full


def _is_causal(model: Any) -> bool:
    text = getattr(model, "text", model)
    return (
        getattr(text, "attn_mask", None) is not None
        and getattr(text, "cls_emb", None) is None
        and not getattr(text, "use_pad_mask", False)
        and hasattr(text, "token_embedding")
        and _pool_type(model) in ("argmax", "eos")
    )
