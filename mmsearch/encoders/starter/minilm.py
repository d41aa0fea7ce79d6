"""all-MiniLM-L6-v2 as a plain torch module: BERT, mean pooling, unit length.

BERT as in Devlin et al. 2018 (https://arxiv.org/abs/1810.04805), written with matmul and softmax
only, so that it exports to ONNX with any batch and any sequence length.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

VOCABULARY = 30522
POSITIONS = 512
WIDTH = 384
LAYERS = 6
HEADS = 12
INNER_WIDTH = 1536
NORM_EPS = 1e-12

# Large enough to vanish in the softmax, small enough to stay finite in half precision.
_MASKED = -1e4

_RENAMED = (
    (r"^embeddings\.(word|position)_embeddings\.", r"\1."),
    (r"^embeddings\.token_type_embeddings\.", "segment."),
    (r"^embeddings\.LayerNorm\.", "norm."),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.self\.(query|key|value)\.", r".\1."),
    (r"\.attention\.output\.dense\.", ".mix."),
    (r"\.attention\.output\.LayerNorm\.", ".norm_mix."),
    (r"\.intermediate\.dense\.", ".widen."),
    (r"\.output\.dense\.", ".narrow."),
    (r"\.output\.LayerNorm\.", ".norm_narrow."),
)


def translate_names(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the published weights file under the names used in this module.

    The pooler and the position counter are left out: mean pooling uses neither.
    """
    translated = {}
    for name, tensor in stored.items():
        if name.startswith("pooler.") or name.endswith("position_ids"):
            continue
        new_name = name
        for pattern, replacement in _RENAMED:
            new_name = re.sub(pattern, replacement, new_name)
        translated[new_name] = tensor.float()
    return translated


class Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm_mix = nn.LayerNorm(WIDTH, eps=NORM_EPS)
        self.widen = nn.Linear(WIDTH, INNER_WIDTH)
        self.narrow = nn.Linear(INNER_WIDTH, WIDTH)
        self.norm_narrow = nn.LayerNorm(WIDTH, eps=NORM_EPS)

    def forward(self, states: Tensor, penalty: Tensor) -> Tensor:
        """float32 (n, t, 384), additive mask (n, 1, 1, t) -> float32 (n, t, 384)."""
        query, key, value = (
            part(states).unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(WIDTH // HEADS)
        heard = torch.softmax(scores + penalty, dim=3) @ value
        states = self.norm_mix(states + self.mix(heard.transpose(1, 2).reshape(states.shape)))
        output: Tensor = self.norm_narrow(states + self.narrow(gelu(self.widen(states))))
        return output


class MiniLM(nn.Module):
    """Token ids -> unit sentence vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(VOCABULARY, WIDTH)
        self.position = nn.Embedding(POSITIONS, WIDTH)
        self.segment = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=NORM_EPS)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 (n, t), int64 (n, t) -> float32 (n, t, 384): each token in its context."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        # Only single sentences are encoded, so every token is of segment 0.
        words = self.word(input_ids) + self.position(positions) + self.segment.weight[0]
        states: Tensor = self.norm(words)
        real = attention_mask.to(states.dtype)
        penalty = (1.0 - real)[:, None, None, :] * _MASKED
        for layer in self.layers:
            states = layer(states, penalty)
        return states

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 (n, t), int64 (n, t) -> float32 (n, 384), unit rows."""
        states = self.states(input_ids, attention_mask)
        weight = attention_mask.to(states.dtype)[:, :, None]
        mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return normalize(mean, dim=1)
