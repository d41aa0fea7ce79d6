"""Training of the starter's alignment: small linear maps between two frozen towers.

The initial model is a zero-shot classifier of texts: the row of an ImageNet class is the mean
sentence vector of its names and definition, and a softmax over the scaled cosines with all rows
gives the class shares of a text. ConSE (Norouzi et al. 2013) does the reverse: it computes the
sentence vector of a picture from its class shares. Three losses then train the maps jointly:

1. words -> classes: a cross entropy in which a WordNet word means all ImageNet classes below it
   equally ("bird": 59);
2. pictures <-> captions: a cross entropy between drawings and their titles and keywords, in both
   directions (InfoNCE, van den Oord et al. 2018, https://arxiv.org/abs/1807.03748);
3. a penalty on the distance to the initial maps, without which a few thousand captions would
   distort the whole text space.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmsearch.encoders.starter.alignment import SENTENCE_DIM, Alignment
from mmsearch.encoders.starter.heads import CLASS_COUNT, FEATURE_DIM, SHARE_FLOOR

BoolMask = NDArray[np.bool_]


@dataclass(frozen=True)
class TrainingSettings:
    """Hyperparameters, chosen by cross-validation on drawings, except ``sentence_share``.

    Attributes:
        steps: Number of optimiser steps.
        learning_rate: Adam's peak learning rate.
        word_batch_size: Concept texts per step.
        picture_batch_size: Drawings per step.
        word_weight: Weight of the words -> classes loss; without it the captions dominate.
        anchor_weight: Weight of the distance of the text map and the class rows to their initial
            values.
        weight_decay: Weight of the squared extra maps.
        noise: Noise added to features, in standard deviations of each feature.
        logit_scale: Initial factor on the cosines with class rows.
        temperature: Temperature of the pictures' class softmax.
        picture_power: See `Alignment`.
        word_power: See `Alignment`.
        extra: Number of columns learned from drawings.
        extra_share: See `Alignment`.
        sentence_share: See `Alignment`. Cross-validation on drawings prefers a lower value, but
            0.5 found more photographs in the validation sets.
    """

    steps: int = 100
    learning_rate: float = 1e-3
    word_batch_size: int = 768
    picture_batch_size: int = 768
    word_weight: float = 3.0
    anchor_weight: float = 10.0
    weight_decay: float = 1e-4
    noise: float = 0.5
    logit_scale: float = 16.0
    temperature: float = 2.0
    picture_power: float = 0.5
    word_power: float = 0.75
    extra: int = 64
    extra_share: float = 0.1
    sentence_share: float = 0.5


@dataclass(frozen=True)
class TrainingData:
    """The training data, already encoded by the frozen towers.

    Attributes:
        features: Features of the drawings, float32 (n, 1280).
        logits: Class logits of the drawings, float32 (n, 1000).
        captions: For each drawing, positions in ``caption_vectors``; a title occurs twice.
        caption_vectors: Vectors of each caption in several phrasings,
            float32 (m, phrasings, 384).
        word_vectors: Vectors of the concept texts, float32 (w, 384).
        word_classes: Weights of the classes that each concept text means, float32 (w, 1000);
            rows sum to 1.
        class_vectors: Mean vector of the texts of each class, float32 (1000, 384), unit rows.
        groups: Group of each class, int64 (1000,).
    """

    features: Tensor
    logits: Tensor
    captions: list[list[int]]
    caption_vectors: Tensor
    word_vectors: Tensor
    word_classes: Tensor
    class_vectors: Tensor
    groups: NDArray[np.int64]


class AlignmentModel(nn.Module):
    """The trainable maps."""

    def __init__(
        self, training_data: TrainingData, pictures: Tensor, settings: TrainingSettings, seed: int
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.settings = settings
        self.group_ids = training_data.groups
        self.groups = torch.eye(int(training_data.groups.max()) + 1)[
            torch.from_numpy(training_data.groups)
        ]
        training_features = training_data.features[pictures]
        self.feature_mean = training_features.mean(0)
        self.feature_scale = float((training_features - self.feature_mean).norm(dim=1).mean())
        # All short phrases share a large common component, which carries no information.
        self.sentence_mean = training_data.word_vectors.mean(0)
        self.initial_class_vectors = training_data.class_vectors
        self.text_map = nn.Parameter(torch.eye(SENTENCE_DIM))
        self.class_vectors = nn.Parameter(self.initial_class_vectors.clone())
        self.class_bias = nn.Parameter(torch.zeros(CLASS_COUNT))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(settings.logit_scale)))
        self.caption_logit_scale = nn.Parameter(torch.tensor(3.0))
        extra = settings.extra
        self.feature_map = nn.Parameter(torch.randn(FEATURE_DIM, extra, generator=generator) * 0.03)
        self.sentence_map = nn.Parameter(
            torch.randn(SENTENCE_DIM, extra, generator=generator) * 0.05
        )

    def word_map(self) -> Tensor:
        """Return the matrix from sentence vectors to class logits, (384, 1000)."""
        return self.logit_scale.exp() * self.text_map @ normalize(self.class_vectors, dim=1).T

    def class_logits(self, sentences: Tensor) -> Tensor:
        """Return the class logits, (n, 1000), of sentence vectors, (n, 384)."""
        return sentences @ self.word_map() + self.class_bias

    def text_components(self, sentences: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit group shares and unit extra columns of sentence vectors."""
        shares = torch.softmax(self.class_logits(sentences), 1) @ self.groups + SHARE_FLOOR
        extra = (sentences - self.sentence_mean) @ self.sentence_map
        return normalize(shares**self.settings.word_power, dim=1), normalize(extra, dim=1)

    def image_components(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unit group shares and unit extra columns of pictures."""
        shares = torch.softmax(logits / self.settings.temperature, 1) @ self.groups + SHARE_FLOOR
        extra = (features - self.feature_mean) / self.feature_scale @ self.feature_map
        return normalize(shares**self.settings.picture_power, dim=1), normalize(extra, dim=1)

    def alignment(self) -> Alignment:
        """Return the trained alignment, with means and scales folded into the maps."""
        feature_map = self.feature_map / self.feature_scale
        arrays = {
            "word_map": self.word_map(),
            "word_bias": self.class_bias,
            "feature_map": feature_map,
            "feature_bias": -(self.feature_mean @ feature_map),
            "sentence_map": self.sentence_map,
            "sentence_bias": -(self.sentence_mean @ self.sentence_map),
            "class_sentences": self.initial_class_vectors,
        }
        values = asdict(self.settings)
        names = ("temperature", "picture_power", "word_power", "extra_share", "sentence_share")
        return Alignment(
            groups=self.group_ids,
            **{name: array.detach().numpy().astype(np.float32) for name, array in arrays.items()},
            **{name: values[name] for name in names},
        )


def train(
    training_data: TrainingData,
    pictures: BoolMask,
    words: BoolMask,
    settings: TrainingSettings,
    seed: int = 0,
) -> AlignmentModel:
    """Fit the maps.

    Args:
        training_data: The complete training data.
        pictures: Mask of the drawings to train on, (n,).
        words: Mask of the concept texts to train on, (w,).
        settings: Hyperparameters.
        seed: Seed of all random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    picture_ids = torch.from_numpy(np.flatnonzero(pictures))
    word_ids = torch.from_numpy(np.flatnonzero(words))
    model = AlignmentModel(training_data, picture_ids, settings, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(1, settings.steps), pct_start=0.1
    )
    for _ in range(settings.steps):
        loss = settings.word_weight * _word_loss(model, training_data, word_ids, generator)
        loss = (
            loss + _caption_loss(model, training_data, picture_ids, generator) + _anchor_loss(model)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _word_loss(
    model: AlignmentModel, training_data: TrainingData, ids: Tensor, generator: torch.Generator
) -> Tensor:
    batch_ids = ids[torch.randint(len(ids), (model.settings.word_batch_size,), generator=generator)]
    logits = model.class_logits(training_data.word_vectors[batch_ids])
    return _cross_entropy(logits, training_data.word_classes[batch_ids])


def _caption_loss(
    model: AlignmentModel, training_data: TrainingData, ids: Tensor, generator: torch.Generator
) -> Tensor:
    settings = model.settings
    batch_ids = ids[torch.randperm(len(ids), generator=generator)[: settings.picture_batch_size]]
    captions = [training_data.captions[i] for i in batch_ids.tolist()]
    random_fractions = torch.rand(len(batch_ids), generator=generator).tolist()
    texts = [
        item_captions[int(fraction * len(item_captions))]
        for item_captions, fraction in zip(captions, random_fractions, strict=True)
    ]
    template_ids = torch.randint(
        training_data.caption_vectors.shape[1], (len(batch_ids),), generator=generator
    )
    # A keyword such as "bird" fits many pictures of the batch, and each of them is a valid target.
    owners: dict[int, list[int]] = defaultdict(list)
    for row, item_captions in enumerate(captions):
        for text in set(item_captions):
            owners[text].append(row)
    targets = torch.zeros(len(batch_ids), len(batch_ids))
    for row, text in enumerate(texts):
        targets[row, owners[text]] = 1.0
    features = training_data.features[batch_ids]
    noise = torch.randn(features.shape, generator=generator) * features.std(0)
    image = model.image_components(
        features + settings.noise * noise, training_data.logits[batch_ids]
    )
    text = model.text_components(training_data.caption_vectors[torch.tensor(texts), template_ids])
    shares, extra = (text[i] @ image[i].T for i in (0, 1))
    combined = (1.0 - settings.extra_share) * shares + settings.extra_share * extra
    # The shares alone must find the picture, too: they carry over to photographs, whereas the
    # extra columns are learned from drawings only.
    loss = torch.zeros(())
    for cosines in (combined, shares):
        scores = cosines * model.caption_logit_scale.exp()
        loss = loss + (_cross_entropy(scores, targets) + _cross_entropy(scores.T, targets.T)) / 2
    return loss


def _anchor_loss(model: AlignmentModel) -> Tensor:
    settings = model.settings
    text = ((model.text_map - torch.eye(SENTENCE_DIM)) ** 2).sum() / SENTENCE_DIM
    classes = ((model.class_vectors - model.initial_class_vectors) ** 2).sum() / CLASS_COUNT
    extra = (model.feature_map**2).sum() + (model.sentence_map**2).sum()
    bias = 1e-3 * (model.class_bias**2).mean()
    return settings.anchor_weight * (text + classes) + settings.weight_decay * extra + bias


def _cross_entropy(scores: Tensor, targets: Tensor) -> Tensor:
    targets = targets / targets.sum(1, keepdim=True)
    return -(targets * torch.log_softmax(scores, 1)).sum(1).mean()
