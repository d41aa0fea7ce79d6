"""Cross-validation of the starter's alignment on unseen drawings and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from starter_sources import Drawing
from starter_training import AlignmentModel, TrainingData, TrainingSettings, train
from torch import Tensor
from torch.nn.functional import normalize

from mmsearch.encoders.starter.heads import CONSE_CLASSES, CONSE_TEMPERATURE

Scorer = Callable[[Tensor, Tensor, Tensor], Tensor]
MIN_CONFIDENT_PROBABILITY = 0.35


@dataclass(frozen=True)
class TitledDrawings:
    """Titles of drawings and their sentence vectors, by position.

    Attributes:
        texts: Title of each drawing; empty for a drawing without a title.
        vectors: Sentence vectors, float32 (n, 384); rows without a title are meaningless.
    """

    texts: list[str]
    vectors: Tensor


def conse_scores(class_vectors: Tensor, sentences: Tensor, logits: Tensor) -> Tensor:
    """Return the cosines of ConSE (Norouzi et al. 2013) with the ten likeliest classes.

    The result has the shape (texts, pictures).
    """
    shares, classes = torch.softmax(logits / CONSE_TEMPERATURE, 1).topk(CONSE_CLASSES, 1)
    pictures = normalize((shares[:, :, None] * class_vectors[classes]).sum(1), dim=1)
    return sentences @ pictures.T


def alignment_scores(
    model: AlignmentModel, sentences: Tensor, features: Tensor, logits: Tensor
) -> Tensor:
    """Return the cosines of the trained alignment, (texts, pictures)."""
    text = model.text_components(sentences)
    image = model.image_components(features, logits)
    weight = model.settings.extra_share
    alignment_part = (1 - weight) * text[0] @ image[0].T + weight * text[1] @ image[1].T
    share = model.settings.sentence_share
    return (1 - share) * alignment_part + share * conse_scores(
        model.initial_class_vectors, sentences, logits
    )


def rank_own_pictures(scores: Tensor, titles: list[str]) -> NDArray[np.int64]:
    """Return the rank, from 1, of each title's picture; equal titles share their pictures."""
    is_own = torch.tensor([[a == b for b in titles] for a in titles])
    best_own = (
        torch.where(is_own, scores, torch.full_like(scores, -2.0)).max(1, keepdim=True).values
    )
    return np.asarray((1 + (scores > best_own).sum(1)).numpy())


def word_average_precision(logits: Tensor, targets: Tensor) -> float:
    """Return the mean average precision of words at ranking the thousand classes."""
    relevant = (targets > 0).float().gather(1, logits.argsort(1, descending=True))
    precision = relevant.cumsum(1) / torch.arange(1, relevant.shape[1] + 1)
    return float(((precision * relevant).sum(1) / relevant.sum(1)).mean())


@torch.inference_mode()
def _print_row(
    split: str,
    variant: str,
    precision: float,
    ids_by_source: dict[str, Tensor],
    titles: TitledDrawings,
    score: Callable[[Tensor, Tensor], Tensor],
) -> None:
    for source, ids in ids_by_source.items():
        scores = score(titles.vectors[ids], ids)
        ranks = rank_own_pictures(scores, [titles.texts[i] for i in ids.tolist()])
        metrics = ((1 / ranks).mean(), (ranks <= 1).mean(), (ranks <= 10).mean(), precision)
        cells = " ".join(f"{metric:6.3f}" for metric in metrics)
        print(f"{split:16} {variant:8} {source:17} {len(ids):5} {cells}", flush=True)


def cross_validate(
    training_data: TrainingData,
    drawings: list[Drawing],
    titles: TitledDrawings,
    is_held_out: NDArray[np.bool_],
    settings: TrainingSettings,
) -> None:
    """Print the results on drawings and words that were held out from training.

    Two of five folds show the quality on drawings of the same kinds. Training on one source and
    testing on the other shows the quality on pictures that look different from the training data,
    as photographs do. The rows marked "sure" keep only drawings that the classifier assigns to one
    class with a probability above `MIN_CONFIDENT_PROBABILITY`, as it does most photographs. They
    are closest to the intended use, and all settings except the share of sentence vectors were
    chosen on them, between sources. The column ``words`` is the mean average precision of unseen
    WordNet concepts at ranking the thousand classes.

    Args:
        training_data: The complete training data.
        drawings: The drawings, in the order of ``training_data``.
        titles: The titles, in the order of ``training_data``.
        is_held_out: Mask of the concept texts to hold out in every split, bool (w,).
        settings: Hyperparameters.
    """
    source = np.array([d.source for d in drawings])
    fold = np.array([d.fold for d in drawings])
    has_title = np.array([bool(text) for text in titles.texts])
    is_confident = (
        torch.softmax(training_data.logits, 1).amax(1) > MIN_CONFIDENT_PROBABILITY
    ).numpy()
    targets = training_data.word_classes[torch.from_numpy(is_held_out)]
    words = training_data.word_vectors[torch.from_numpy(is_held_out)]
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
    for split, train_mask in splits.items():
        positions_by_source = {
            source_name: np.flatnonzero(~train_mask & has_title & (source == source_name))
            for source_name in sorted(set(source))
        }
        positions_by_source |= {
            f"{source_name}, sure": ids[is_confident[ids]]
            for source_name, ids in positions_by_source.items()
        }
        ids_by_source = {
            source_name: torch.from_numpy(ids)
            for source_name, ids in positions_by_source.items()
            if len(ids)
        }
        _print_row(
            split,
            "ConSE",
            word_average_precision(words @ training_data.class_vectors.T, targets),
            ids_by_source,
            titles,
            lambda vectors, ids: conse_scores(
                training_data.class_vectors, vectors, training_data.logits[ids]
            ),
        )
        initial = train(
            training_data, train_mask, ~is_held_out, replace(settings, steps=0, extra_share=0.0)
        )
        trained = train(training_data, train_mask, ~is_held_out, settings)
        for variant, model, share in (
            ("start", initial, 0.0),
            ("learnt", trained, 0.0),
            ("joined", trained, settings.sentence_share),
        ):
            model.settings = replace(model.settings, sentence_share=share)
            with torch.inference_mode():
                precision = word_average_precision(model.class_logits(words), targets)
            _print_row(
                split,
                variant,
                precision,
                ids_by_source,
                titles,
                lambda vectors, ids, aligner=model: alignment_scores(  # type: ignore[misc]
                    aligner, vectors, training_data.features[ids], training_data.logits[ids]
                ),
            )
