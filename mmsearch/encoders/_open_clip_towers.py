"""OpenCLIP's towers as they are compiled: prepared input -> unit vectors."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import VisionTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize

TEXT_TOWER_TOLERANCE = 1e-5


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
        vectors = self.model(self.normalize_pixels(pictures))
        # CoCa's tower gives the tokens for its decoder as well.
        vectors = vectors[0] if isinstance(vectors, tuple) else vectors
        return normalize(vectors, dim=-1)

    def normalize_pixels(self, pictures: Tensor) -> Tensor:
        """uint8 (n, s, s, 3) -> float32 (n, 3, s, s), as the model was trained on."""
        return ((pictures.float() - self.mean) * self.scale).permute(0, 3, 1, 2)


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

    def hidden_states(self, ids: Tensor) -> Tensor:
        """int64 (n, t) -> float32 (n, t, width): each token in the context of those before it."""
        length = ids.shape[1]
        hidden_states = self.token_embedding(ids) + self.positional_embedding[:length]
        hidden_states = self.transformer(hidden_states, attn_mask=self.attn_mask[:length, :length])
        final: Tensor = self.ln_final(hidden_states)
        return final

    def project(self, hidden_states: Tensor) -> Tensor:
        """float32 (n, width) -> float32 (n, dim), unit rows."""
        if isinstance(self.text_projection, nn.Linear):
            hidden_states = self.text_projection(hidden_states)
        elif self.text_projection is not None:
            hidden_states = hidden_states @ self.text_projection
        return normalize(hidden_states, dim=-1)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (n, t) -> float32 (n, dim), unit rows."""
        hidden_states = self.hidden_states(ids)
        return self.project(
            text_global_pool(hidden_states, ids, self.pool_type, eos_token_id=self.end_id)
        )


class TokenTower(nn.Module):
    """Token ids -> unit vectors of each token, as if the text ended there.

    Args:
        tower: Shares its weights.
    """

    def __init__(self, tower: CausalTextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids: Tensor) -> Tensor:
        """int64 (n, t) -> float32 (n * t, dim), unit rows."""
        return self.tower.project(self.tower.hidden_states(ids).flatten(0, 1))


class PatchTower(nn.Module):
    """Prepared pictures -> unit vectors of their patches, by a vision transformer's projection.

    Args:
        tower: Shares its weights.
    """

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 (n, s, s, 3) -> float32 (n * p, dim), unit rows."""
        visual = self.tower.model
        previous, visual.output_tokens = visual.output_tokens, True
        try:
            _, tokens = visual(self.tower.normalize_pixels(pictures))
        finally:
            visual.output_tokens = previous
        return normalize(tokens.flatten(0, 1) @ visual.proj, dim=-1)


def make_patch_tower(tower: ImageTower) -> PatchTower | None:
    """The tower of patches; None if the model's patches are not in the space of its vectors."""
    visual = tower.model
    has_projection = isinstance(visual, VisionTransformer) and visual.proj is not None
    return PatchTower(tower) if has_projection and visual.attn_pool is None else None


def make_token_tower(tower: CausalTextTower | FullTextTower) -> TokenTower | None:
    """The tower of tokens; None if the model's tokens are not in the space of its vectors."""
    return TokenTower(tower) if isinstance(tower, CausalTextTower) else None


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


def make_text_tower(model: Any, ids: Tensor) -> CausalTextTower | FullTextTower:
    """The text tower whose padding may be cut, if that is right for the model.

    Args:
        model: Any open_clip model.
        ids: int64 (n, context length): texts to hold it to the model's own tower on.
    """
    full = FullTextTower(model).eval()
    if not _is_causal(model):
        return full
    causal = CausalTextTower(model).eval()
    # A tower may have the parts of a causal one and still use them in another way.
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
