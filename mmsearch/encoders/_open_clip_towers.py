"""OpenCLIP towers in the form that is compiled: preprocessed input to unit vectors."""

from __future__ import annotations

from typing import Any

import torch
from open_clip.transformer import VisionTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn.functional import normalize

TEXT_TOWER_TOLERANCE = 1e-5
"""Largest absolute difference allowed between `CausalTextTower` and the model's own output."""


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


class TokenTower(nn.Module):
    """A tower that returns a unit vector for each token, as if the text ended there.

    Args:
        tower: The text tower; its weights are shared.
    """

    def __init__(self, tower: CausalTextTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids: Tensor) -> Tensor:
        """Encode token ids, int64 (n, t), as float32 (n * t, dim) with unit rows."""
        return self.tower.project(self.tower.hidden_states(ids).flatten(0, 1))


class PatchTower(nn.Module):
    """A tower that returns a unit vector for each patch, using a vision transformer's projection.

    Args:
        tower: The image tower; its weights are shared.
    """

    def __init__(self, tower: ImageTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode the p patches of pictures, uint8 (n, s, s, 3), as float32 (n * p, dim).

        All rows have unit length.
        """
        visual = self.tower.model
        previous, visual.output_tokens = visual.output_tokens, True
        try:
            _, tokens = visual(self.tower.normalize_pixels(pictures))
        finally:
            visual.output_tokens = previous
        return normalize(tokens.flatten(0, 1) @ visual.proj, dim=-1)


def make_patch_tower(tower: ImageTower) -> PatchTower | None:
    """Return the patch tower, or None if patches are not in the model's embedding space."""
    visual = tower.model
    has_projection = isinstance(visual, VisionTransformer) and visual.proj is not None
    return PatchTower(tower) if has_projection and visual.attn_pool is None else None


def make_token_tower(tower: CausalTextTower | FullTextTower) -> TokenTower | None:
    """Return the token tower, or None if tokens are not in the model's embedding space."""
    return TokenTower(tower) if isinstance(tower, CausalTextTower) else None


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
