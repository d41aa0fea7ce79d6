"""Learning the starter's alignment: two frozen towers, small maps between them.

The start is the zero-shot reading of a text as classes: the sentence vectors of an ImageNet class's
names and definition are its row, a softmax over scaled cosines with all rows gives a text's shares
(as ConSE, Norouzi et al. 2013, makes sentence vectors of a picture's shares, but the other way
round). From there three lessons, each a cross entropy, move the maps together:

1. words -> classes: a WordNet word means all ImageNet classes beneath it alike ("bird": 59);
2. pictures <-> captions: drawings and their titles and keywords, in both directions (InfoNCE,
   van den Oord et al. 2018, https://arxiv.org/abs/1807.03748);
3. a pull back to the start, without which a few thousand captions would bend all of language.
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

MASK = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """Hyperparameters, chosen by cross-validation on drawings, but for `sentence_share`.

    Attributes:
        steps: Optimiser steps.
        rate: Adam's peak learning rate.
        words: Concept texts a step.
        pictures: Drawings a step.
        word_weight: Weight of the words -> classes lesson; without it the captions win.
        pull: Weight of the pull of the text map and the class rows to the start.
        decay: Weight of the squared extra maps.
        noise: Noise on features, in standard deviations of each.
        sharpness: What cosines with class rows are multiplied by, at the start.
        temperature: Of the pictures' class softmax.
        picture_power: See `Alignment`.
        word_power: See `Alignment`.
        extra: Columns learned from drawings.
        extra_share: See `Alignment`.
        sentence_share: See `Alignment`; cross-validation on
            drawings prefers less, but one half found more photographs in the validation sets.
    """

    steps: int = 100
    rate: float = 1e-3
    words: int = 768
    pictures: int = 768
    word_weight: float = 3.0
    pull: float = 10.0
    decay: float = 1e-4
    noise: float = 0.5
    sharpness: float = 16.0
    temperature: float = 2.0
    picture_power: float = 0.5
    word_power: float = 0.75
    extra: int = 64
    extra_share: float = 0.1
    sentence_share: float = 0.5


@dataclass(frozen=True)
class Material:
    """Everything to learn from, already encoded by the frozen towers.

    Attributes:
        features: float32 (n, 1280) of the drawings.
        logits: float32 (n, 1000) of the drawings.
        captions: For each drawing, positions in `caption_vectors`; a title stands twice.
        caption_vectors: float32 (m, phrasings, 384): each caption in several phrasings.
        word_vectors: float32 (w, 384): concept texts.
        word_classes: float32 (w, 1000): which classes each one means; rows sum to 1.
        class_vectors: float32 (1000, 384): the mean of what each class is called, unit rows.
        groups: int64 (1000,): the group of each class.
    """

    features: Tensor
    logits: Tensor
    captions: list[list[int]]
    caption_vectors: Tensor
    word_vectors: Tensor
    word_classes: Tensor
    class_vectors: Tensor
    groups: NDArray[np.int64]


class Learner(nn.Module):
    """The maps that are learned."""

    def __init__(self, material: Material, pictures: Tensor, settings: Settings, seed: int) -> None:
        super().__init__()
        chance = torch.Generator().manual_seed(seed)
        self.settings = settings
        self.group_ids = material.groups
        self.groups = torch.eye(int(material.groups.max()) + 1)[torch.from_numpy(material.groups)]
        seen = material.features[pictures]
        self.feature_mean = seen.mean(0)
        self.feature_scale = float((seen - self.feature_mean).norm(dim=1).mean())
        # Every short phrase shares a large common part, which says nothing.
        self.sentence_mean = material.word_vectors.mean(0)
        self.class_start = material.class_vectors
        self.text_map = nn.Parameter(torch.eye(SENTENCE_DIM))
        self.class_vectors = nn.Parameter(self.class_start.clone())
        self.class_bias = nn.Parameter(torch.zeros(CLASS_COUNT))
        self.sharpness = nn.Parameter(torch.tensor(math.log(settings.sharpness)))
        self.caption_sharpness = nn.Parameter(torch.tensor(3.0))
        extra = settings.extra
        self.feature_map = nn.Parameter(torch.randn(FEATURE_DIM, extra, generator=chance) * 0.03)
        self.sentence_map = nn.Parameter(torch.randn(SENTENCE_DIM, extra, generator=chance) * 0.05)

    def word_map(self) -> Tensor:
        """From sentence vectors to class logits, (384, 1000)."""
        return self.sharpness.exp() * self.text_map @ normalize(self.class_vectors, dim=1).T

    def class_logits(self, sentences: Tensor) -> Tensor:
        """Sentence vectors (n, 384) -> class logits (n, 1000)."""
        return sentences @ self.word_map() + self.class_bias

    def text_parts(self, sentences: Tensor) -> tuple[Tensor, Tensor]:
        """Sentence vectors -> unit group shares, unit extra columns."""
        shares = torch.softmax(self.class_logits(sentences), 1) @ self.groups + SHARE_FLOOR
        extra = (sentences - self.sentence_mean) @ self.sentence_map
        return normalize(shares**self.settings.word_power, dim=1), normalize(extra, dim=1)

    def image_parts(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits -> unit group shares, unit extra columns."""
        shares = torch.softmax(logits / self.settings.temperature, 1) @ self.groups + SHARE_FLOOR
        extra = (features - self.feature_mean) / self.feature_scale @ self.feature_map
        return normalize(shares**self.settings.picture_power, dim=1), normalize(extra, dim=1)

    def alignment(self) -> Alignment:
        """What was learned, with means and scales folded in."""
        feature_map = self.feature_map / self.feature_scale
        arrays = {
            "word_map": self.word_map(),
            "word_bias": self.class_bias,
            "feature_map": feature_map,
            "feature_bias": -(self.feature_mean @ feature_map),
            "sentence_map": self.sentence_map,
            "sentence_bias": -(self.sentence_mean @ self.sentence_map),
            "class_sentences": self.class_start,
        }
        chosen = asdict(self.settings)
        names = ("temperature", "picture_power", "word_power", "extra_share", "sentence_share")
        return Alignment(
            groups=self.group_ids,
            **{name: array.detach().numpy().astype(np.float32) for name, array in arrays.items()},
            **{name: chosen[name] for name in names},
        )


def learn(
    material: Material, pictures: MASK, words: MASK, settings: Settings, seed: int = 0
) -> Learner:
    """Fit the maps.

    Args:
        material: All of it.
        pictures: Which drawings may be seen.
        words: Which concept texts may be seen.
        settings: Hyperparameters.
        seed: Of everything random.
    """
    chance = torch.Generator().manual_seed(seed)
    picture_ids = torch.from_numpy(np.flatnonzero(pictures))
    word_ids = torch.from_numpy(np.flatnonzero(words))
    learner = Learner(material, picture_ids, settings, seed)
    optimiser = torch.optim.Adam(learner.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=max(1, settings.steps), pct_start=0.1
    )
    for _ in range(settings.steps):
        loss = settings.word_weight * _word_loss(learner, material, word_ids, chance)
        loss = loss + _caption_loss(learner, material, picture_ids, chance) + _pull(learner)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return learner.eval()


def _word_loss(
    learner: Learner, material: Material, ids: Tensor, chance: torch.Generator
) -> Tensor:
    chosen = ids[torch.randint(len(ids), (learner.settings.words,), generator=chance)]
    logits = learner.class_logits(material.word_vectors[chosen])
    return _cross_entropy(logits, material.word_classes[chosen])


def _caption_loss(
    learner: Learner, material: Material, ids: Tensor, chance: torch.Generator
) -> Tensor:
    settings = learner.settings
    chosen = ids[torch.randperm(len(ids), generator=chance)[: settings.pictures]]
    captions = [material.captions[i] for i in chosen.tolist()]
    draws = torch.rand(len(chosen), generator=chance).tolist()
    texts = [own[int(draw * len(own))] for own, draw in zip(captions, draws, strict=True)]
    phrasing = torch.randint(material.caption_vectors.shape[1], (len(chosen),), generator=chance)
    # A keyword such as "bird" is true of many pictures of the batch: none of them is a mistake.
    owners: dict[int, list[int]] = defaultdict(list)
    for row, own in enumerate(captions):
        for text in set(own):
            owners[text].append(row)
    truth = torch.zeros(len(chosen), len(chosen))
    for row, text in enumerate(texts):
        truth[row, owners[text]] = 1.0
    features = material.features[chosen]
    noise = torch.randn(features.shape, generator=chance) * features.std(0)
    image = learner.image_parts(features + settings.noise * noise, material.logits[chosen])
    text = learner.text_parts(material.caption_vectors[torch.tensor(texts), phrasing])
    shares, extra = (text[i] @ image[i].T for i in (0, 1))
    joined = (1.0 - settings.extra_share) * shares + settings.extra_share * extra
    # The shares alone must find the picture too: photographs have them, but look like no drawing.
    loss = torch.zeros(())
    for cosines in (joined, shares):
        scores = cosines * learner.caption_sharpness.exp()
        loss = loss + (_cross_entropy(scores, truth) + _cross_entropy(scores.T, truth.T)) / 2
    return loss


def _pull(learner: Learner) -> Tensor:
    settings = learner.settings
    text = ((learner.text_map - torch.eye(SENTENCE_DIM)) ** 2).sum() / SENTENCE_DIM
    classes = ((learner.class_vectors - learner.class_start) ** 2).sum() / CLASS_COUNT
    extra = (learner.feature_map**2).sum() + (learner.sentence_map**2).sum()
    bias = 1e-3 * (learner.class_bias**2).mean()
    return settings.pull * (text + classes) + settings.decay * extra + bias


def _cross_entropy(scores: Tensor, truth: Tensor) -> Tensor:
    truth = truth / truth.sum(1, keepdim=True)
    return -(truth * torch.log_softmax(scores, 1)).sum(1).mean()
