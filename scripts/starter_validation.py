"""Cross-validation of the starter's alignment: what it is worth on what it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from starter_sources import Drawing
from starter_training import Learner, Material, Settings, learn
from torch import Tensor
from torch.nn.functional import normalize

from mmsearch.encoders.starter.heads import CONSE_CLASSES, CONSE_TEMPERATURE

Scorer = Callable[[Tensor, Tensor, Tensor], Tensor]
SURE = 0.35


@dataclass(frozen=True)
class Titles:
    """The titled drawings: their titles and the titles' sentence vectors, by position.

    Attributes:
        texts: One for each drawing; empty where there is none.
        vectors: float32 (n, 384); rows without a title mean nothing.
    """

    texts: list[str]
    vectors: Tensor


def conse_scores(class_vectors: Tensor, sentences: Tensor, logits: Tensor) -> Tensor:
    """ConSE (Norouzi et al. 2013) with the ten likeliest classes: cosines (texts, pictures)."""
    shares, classes = torch.softmax(logits / CONSE_TEMPERATURE, 1).topk(CONSE_CLASSES, 1)
    pictures = normalize((shares[:, :, None] * class_vectors[classes]).sum(1), dim=1)
    return sentences @ pictures.T


def learnt_scores(learner: Learner, sentences: Tensor, features: Tensor, logits: Tensor) -> Tensor:
    """Cosines of the learnt alignment, (texts, pictures)."""
    text = learner.text_parts(sentences)
    image = learner.image_parts(features, logits)
    weight = learner.settings.extra_share
    learnt = (1 - weight) * text[0] @ image[0].T + weight * text[1] @ image[1].T
    share = learner.settings.sentence_share
    return (1 - share) * learnt + share * conse_scores(learner.class_start, sentences, logits)


def own_ranks(scores: Tensor, titles: list[str]) -> NDArray[np.int64]:
    """The rank, from 1, of each title's own picture; equal titles own each other's."""
    own = torch.tensor([[a == b for b in titles] for a in titles])
    best = torch.where(own, scores, torch.full_like(scores, -2.0)).max(1, keepdim=True).values
    return np.asarray((1 + (scores > best).sum(1)).numpy())


def word_precision(logits: Tensor, truth: Tensor) -> float:
    """Mean average precision of words at ranking the thousand classes."""
    hits = (truth > 0).float().gather(1, logits.argsort(1, descending=True))
    precision = hits.cumsum(1) / torch.arange(1, hits.shape[1] + 1)
    return float(((precision * hits).sum(1) / hits.sum(1)).mean())


@torch.inference_mode()
def _print_row(
    split: str,
    variant: str,
    precision: float,
    chosen: dict[str, Tensor],
    titles: Titles,
    score: Callable[[Tensor, Tensor], Tensor],
) -> None:
    for source, ids in chosen.items():
        scores = score(titles.vectors[ids], ids)
        ranks = own_ranks(scores, [titles.texts[i] for i in ids.tolist()])
        figures = ((1 / ranks).mean(), (ranks <= 1).mean(), (ranks <= 10).mean(), precision)
        cells = " ".join(f"{figure:6.3f}" for figure in figures)
        print(f"{split:16} {variant:8} {source:17} {len(ids):5} {cells}", flush=True)


def cross_validate(
    material: Material,
    drawings: list[Drawing],
    titles: Titles,
    unseen: NDArray[np.bool_],
    settings: Settings,
) -> None:
    """Print what is found among drawings and words that were not learned from.

    Two of five folds show what the same kinds of drawing gain; learning from one source only and
    measuring on the other shows what is left when the pictures look unlike those learned from, as
    photographs do. The rows marked "sure" keep only drawings that the classifier takes for one
    class with more than `SURE`, as it does most photographs: they come nearest to what is wanted,
    and all settings but the share of sentence vectors were chosen by them, between sources.
    `words` is the mean average precision of unseen WordNet concepts at ranking the thousand
    classes.

    Args:
        material: All of it.
        drawings: In the order of `material`.
        titles: In the order of `material`.
        unseen: bool (w,): the concept texts to hold out in every split.
        settings: Hyperparameters.
    """
    source = np.array([d.source for d in drawings])
    fold = np.array([d.fold for d in drawings])
    titled = np.array([bool(text) for text in titles.texts])
    sure = (torch.softmax(material.logits, 1).amax(1) > SURE).numpy()
    truth = material.word_classes[torch.from_numpy(unseen)]
    words = material.word_vectors[torch.from_numpy(unseen)]
    print(
        f"{'split':16} {'variant':8} {'searched':17} {'n':>5} "
        f"{'MRR':>6} {'R@1':>6} {'R@10':>6} {'words':>6}"
    )
    splits = {
        "fold 0": fold != 0,
        "fold 1": fold != 1,
        "emoji only": source == "emoji",
        "clip art only": source != "emoji",
    }
    for split, seen in splits.items():
        parts = {of: np.flatnonzero(~seen & titled & (source == of)) for of in sorted(set(source))}
        parts |= {f"{of}, sure": ids[sure[ids]] for of, ids in parts.items()}
        chosen = {of: torch.from_numpy(ids) for of, ids in parts.items() if len(ids)}
        _print_row(
            split,
            "ConSE",
            word_precision(words @ material.class_vectors.T, truth),
            chosen,
            titles,
            lambda vectors, ids: conse_scores(
                material.class_vectors, vectors, material.logits[ids]
            ),
        )
        start = learn(material, seen, ~unseen, replace(settings, steps=0, extra_share=0.0))
        learnt = learn(material, seen, ~unseen, settings)
        for variant, learner, share in (
            ("start", start, 0.0),
            ("learnt", learnt, 0.0),
            ("joined", learnt, settings.sentence_share),
        ):
            learner.settings = replace(learner.settings, sentence_share=share)
            with torch.inference_mode():
                precision = word_precision(learner.class_logits(words), truth)
            _print_row(
                split,
                variant,
                precision,
                chosen,
                titles,
                lambda vectors, ids, by=learner: learnt_scores(  # type: ignore[misc]
                    by, vectors, material.features[ids], material.logits[ids]
                ),
            )
