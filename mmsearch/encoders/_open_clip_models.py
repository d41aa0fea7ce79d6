"""OpenCLIP models in torch. Imported only to compile, or for a GPU."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import open_clip
import torch
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.transformer import text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmsearch.core.errors import ModelUnavailableError, UnknownNameError
from mmsearch.core.types import EncoderSpec
from mmsearch.encoders._compiled import file_sha256
from mmsearch.encoders._preparation import PixelPreparation
from mmsearch.encoders._text import TextPreparation, TokenizerFacts, clip_tokenizer_json
from mmsearch.encoders._towers import LoadedModel

CODE_VERSION: Final = 1

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
    variant: str, architecture: str, tag: str, offline: bool, say: Callable[[str], None]
) -> LoadedModel:
    """A model with the weights of a tag.

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
    return _load(variant, architecture, _weights(variant, facts, offline, say), facts)


def load_file(variant: str, architecture: str, file: Path) -> LoadedModel:
    """A model with the weights of a local checkpoint.

    Raises:
        ModelUnavailableError: The file cannot be read safely, or is not of this architecture.
        UnknownNameError: The architecture's JSON file cannot be used.
    """
    if architecture.endswith(".json"):
        config = Path(architecture)
        open_clip.add_model_config(config)
        if config.stem not in open_clip.list_models():
            raise UnknownNameError(f"{architecture} does not describe an open_clip model.")
        architecture = config.stem
    return _load(variant, architecture, file, {})


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


def _load(variant: str, architecture: str, file: Path, tag_facts: Mapping[str, Any]) -> LoadedModel:
    wanted = ("mean", "std", "interpolation", "resize_mode")
    with _only_tensors():
        try:
            model = open_clip.create_model(
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
            raise ModelUnavailableError(
                f"{file} cannot be loaded as a checkpoint of {architecture}: "
                f"{text[0][:200] if text else type(error).__name__}"
            ) from error
    pixels = open_clip.get_model_preprocess_cfg(model)
    size = pixels["size"]
    preparation = PixelPreparation(
        size_px=int(size[0] if isinstance(size, tuple | list) else size),
        resize_mode=pixels["resize_mode"],
        interpolation=pixels["interpolation"],
        fill=int(pixels["fill_color"]),
    )
    tokenizer, facts, tokenizer_json = _tokenizer(architecture, model)
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
        code_version=CODE_VERSION,
        context_length=facts.context_length,
    )
    text_tower = CausalTextTower(model) if facts.pads_to_longest else FullTextTower(model)
    return LoadedModel(
        spec, preparation, facts, tokenizer_json, image_tower.eval(), text_tower.eval()
    )


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Forbid torch.load to run code, whatever open_clip passes on."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class ImageTower(nn.Module):
    """Prepared pictures -> unit vectors; normalisation included."""

    mean: Tensor
    scale: Tensor

    def __init__(self, model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model = model.visual
        self.register_buffer("mean", torch.tensor(mean) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(std) * 255))

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 (n, s, s, 3) -> float32 (n, dim), unit rows."""
        pixels = (pictures.float() - self.mean) * self.scale
        vectors = self.model(pixels.permute(0, 3, 1, 2))
        return normalize(vectors, dim=-1)


class CausalTextTower(nn.Module):
    """A CLIP text tower: each token sees those before it, and the end of the text is read off.

    What follows the end changes nothing, so padding may be cut to the longest text of a batch.
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

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (n, t) -> float32 (n, dim), unit rows."""
        length = ids.shape[1]
        states = self.token_embedding(ids) + self.positional_embedding[:length]
        states = self.transformer(states, attn_mask=self.attn_mask[:length, :length])
        pooled = text_global_pool(
            self.ln_final(states), ids, self.pool_type, eos_token_id=self.end_id
        )
        if isinstance(self.text_projection, nn.Linear):
            pooled = self.text_projection(pooled)
        elif self.text_projection is not None:
            pooled = pooled @ self.text_projection
        return normalize(pooled, dim=-1)


class FullTextTower(nn.Module):
    """Any other text tower, at its full context length."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (n, context length) -> float32 (n, dim), unit rows."""
        return normalize(self.model.encode_text(ids), dim=-1)


def _pool_type(model: Any) -> str:
    text = getattr(model, "text", model)
    return str(getattr(model, "text_pool_type", getattr(text, "pool_type", "")))


def _is_causal(model: Any) -> bool:
    text = getattr(model, "text", model)
    return (
        getattr(text, "attn_mask", None) is not None
        and getattr(text, "cls_emb", None) is None
        and not getattr(text, "use_pad_mask", False)
        and hasattr(text, "token_embedding")
        and _pool_type(model) in ("argmax", "eos")
    )


def _tokenizer(architecture: str, model: Any) -> tuple[Any, TokenizerFacts, str]:
    tokenizer = open_clip.get_tokenizer(architecture)
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
        pads_to_longest=_is_causal(model),
        takes_mask=False,
    )
    return tokenizer, facts, stored


def _closing_id(tokenizer: Any) -> int | None:
    """The special token that ends every text, if there is one."""
    last = tokenizer("a").input_ids[-1]
    return int(last) if last in tokenizer.all_special_ids else None


def _check_tokens(variant: str, tokenizer: Any, facts: TokenizerFacts, tokenizer_json: str) -> None:
    """Refuse a tokenizer that we cannot reproduce token for token."""
    mine = TextPreparation(
        TokenizerFacts(**{**facts.facts(), "pads_to_longest": False}), tokenizer_json
    )
    for prompt in _PROMPTS:
        theirs = tokenizer([prompt])[0].tolist()
        ours = mine.inputs([mine.prepare(prompt)])[0][0].tolist()
        if ours != theirs:
            raise ModelUnavailableError(
                f"The tokenizer of open_clip:{variant} cannot be reproduced: it reads "
                f"{prompt[:40]!r} in another way.",
                "Choose another model: mmsearch models list.",
            )
