"""all-MiniLM-L6-v2 as a plain torch module: BERT, mean pooling and normalisation.

BERT follows Devlin et al. 2018 (https://arxiv.org/abs/1810.04805). Attention uses only matmul and
softmax, so that the module exports to ONNX with any batch size and sequence length.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

VOCABULARY_SIZE = 30522
MAX_POSITIONS = 512
HIDDEN_SIZE = 384
LAYER_COUNT = 6
HEAD_COUNT = 12
INTERMEDIATE_SIZE = 1536
NORM_EPS = 1e-12

# Large enough to vanish in the softmax, small enough to stay finite in half precision.
_MASK_VALUE = -1e4

_TENSOR_NAME_RULES = (
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


def rename_tensors(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of the published weights file to the names used in this module.

    The pooler and the position ids are dropped because this module does not use them.
    """
    renamed_tensors = {}
    for name, tensor in stored.items():
        if name.startswith("pooler.") or name.endswith("position_ids"):
            continue
        new_name = name
        for pattern, replacement in _TENSOR_NAME_RULES:
            new_name = re.sub(pattern, replacement, new_name)
        renamed_tensors[new_name] = tensor.float()
    return renamed_tensors


class TransformerLayer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)
        self.key = nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)
        self.value = nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)
        self.mix = nn.Linear(HIDDEN_SIZE, HIDDEN_SIZE)
        self.norm_mix = nn.LayerNorm(HIDDEN_SIZE, eps=NORM_EPS)
        self.widen = nn.Linear(HIDDEN_SIZE, INTERMEDIATE_SIZE)
        self.narrow = nn.Linear(INTERMEDIATE_SIZE, HIDDEN_SIZE)
        self.norm_narrow = nn.LayerNorm(HIDDEN_SIZE, eps=NORM_EPS)

    def forward(self, hidden_states: Tensor, attention_bias: Tensor) -> Tensor:
        """Apply the layer to float32 (n, t, 384) with an additive mask (n, 1, 1, t)."""
        query, key, value = (
            projection(hidden_states)
            .unflatten(2, (HEAD_COUNT, HIDDEN_SIZE // HEAD_COUNT))
            .transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(HIDDEN_SIZE // HEAD_COUNT)
        attended = torch.softmax(scores + attention_bias, dim=3) @ value
        hidden_states = self.norm_mix(
            hidden_states + self.mix(attended.transpose(1, 2).reshape(hidden_states.shape))
        )
        output: Tensor = self.norm_narrow(
            hidden_states + self.narrow(gelu(self.widen(hidden_states)))
        )
        return output


class MiniLM(nn.Module):
    """The sentence encoder, which maps token ids to unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(VOCABULARY_SIZE, HIDDEN_SIZE)
        self.position = nn.Embedding(MAX_POSITIONS, HIDDEN_SIZE)
        self.segment = nn.Embedding(2, HIDDEN_SIZE)
        self.norm = nn.LayerNorm(HIDDEN_SIZE, eps=NORM_EPS)
        self.layers = nn.ModuleList(TransformerLayer() for _ in range(LAYER_COUNT))

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the hidden states, float32 (n, t, 384), of token ids and mask, int64 (n, t)."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        # Only single sentences are encoded, so every token belongs to segment 0.
        words = self.word(input_ids) + self.position(positions) + self.segment.weight[0]
        hidden_states: Tensor = self.norm(words)
        token_mask = attention_mask.to(hidden_states.dtype)
        attention_bias = (1.0 - token_mask)[:, None, None, :] * _MASK_VALUE
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_bias)
        return hidden_states

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode token ids and mask, int64 (n, t), as float32 (n, 384) with unit rows."""
        hidden_states = self.hidden_states(input_ids, attention_mask)
        weight = attention_mask.to(hidden_states.dtype)[:, :, None]
        mean = (hidden_states * weight).sum(1) / weight.sum(1).clamp(min=1.0)
        return normalize(mean, dim=1)
