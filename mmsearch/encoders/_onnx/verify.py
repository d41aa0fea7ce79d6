"""Sample inputs for the verification of compiled towers: batches and single items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.encoders._tokenizer import TextTokenizer

Inputs = list[NDArray[Any]]
"""Input arrays of one call of a tower."""

_SAMPLE_TEXTS = (
    "a photo of a red car in front of a house",
    "windmill",
    "two dogs playing on a sunny beach, seen from far above, while a boat goes by",
)

_EXTRA_SAMPLE_TEXTS = (
    "a child eating an apple in the garden",
    "sunset over the sea",
    "black and white portrait of an old man with a hat",
    "a cat",
    "people waiting for the train at night in the rain",
    "church",
    "an aerial view of fields, with a river that winds through them towards the mountains",
    "hand-drawn map of an island, 1890",
    "a photo of three birds sitting on a wire",
    "my grandmother in her kitchen, Christmas 1978",
    "close-up of a flower with morning dew",
    "a group of tourists taking pictures of a cathedral",
    "empty motorway",
    "a plate of spaghetti with tomatoes and basil, seen from above",
    "two men shaking hands in an office",
    "snow",
    "a screenshot of a web page with a table of prices",
    "the blue bicycle that leans against a yellow wall",
    "horses running through shallow water",
    "a boy kicking a ball while his father watches from the bench",
    "IMG_2043.JPG",
    "concert crowd with raised hands and red light on the stage",
    "a glass of water on a wooden desk next to an open book and a pair of glasses",
    "fireworks over the harbour",
)

SAMPLE_IMAGE_COUNT = 16
"""Number of natural pictures on which an int8 tower is compared with float32."""


def min_cosine(vectors: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> float:
    """Return the lowest cosine between unit vectors at the same position; NaN if one is NaN."""
    return float(np.min([v @ e for v, e in zip(vectors, expected, strict=True)]))


def sample_image_batches(edge_px: int) -> list[Inputs]:
    """Return batches of 2, 1 and 3 pictures, uint8 (n, edge, edge, 3)."""
    rng = np.random.default_rng(0)
    shapes = ((n, edge_px, edge_px, 3) for n in (2, 1, 3))
    batches = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    # The lower half of each picture is a single colour, which noise never is.
    for batch in batches:
        batch[:, edge_px // 2 :] = 200
    return [[batch] for batch in batches]


def single_image_samples(edge_px: int) -> list[Inputs]:
    """Return single pictures: natural ones, and one that is half noise."""
    batches = sample_image_batches(edge_px)
    return [
        *([picture[None]] for picture in natural_images(edge_px, SAMPLE_IMAGE_COUNT)),
        batches[1],
    ]


def sample_text_batches(tokenizer: TextTokenizer) -> list[Inputs]:
    """Return batches of 3, 1, 1 and 1 texts; the last text exceeds the context length."""
    return [
        list(tokenizer.pad_batch([tokenizer.prepare(sample) for sample in samples]))
        for samples in (
            _SAMPLE_TEXTS,
            _SAMPLE_TEXTS[:1],
            _SAMPLE_TEXTS[1:2],
            (" ".join(_SAMPLE_TEXTS * 40),),
        )
    ]


def single_text_samples(tokenizer: TextTokenizer) -> list[Inputs]:
    """Return typical queries and captions, one per call."""
    return [
        list(tokenizer.pad_batch([tokenizer.prepare(sample)]))
        for sample in (*_SAMPLE_TEXTS, *_EXTRA_SAMPLE_TEXTS)
    ]


def natural_images(edge_px: int, count: int) -> NDArray[np.uint8]:
    """Return noise with the 1/f spectrum of photographs, uint8 (count, edge, edge, 3).

    Brightness and contrast vary between the pictures.
    """
    random = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(edge_px)[:, None], np.fft.rfftfreq(edge_px)[None]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / edge_px)
    pictures = np.empty((count, edge_px, edge_px, 3), dtype=np.uint8)
    for picture in pictures:
        spectrum = np.fft.rfft2(random.standard_normal((3, edge_px, edge_px)))
        grey, *colours = np.fft.irfft2(spectrum * amplitude, s=(edge_px, edge_px))
        rgb = np.stack([grey, grey + 0.4 * colours[0], grey + 0.4 * colours[1]], axis=2)
        rgb /= rgb.std()
        brightness, contrast = random.uniform(70, 180), random.uniform(20, 70)
        picture[:] = np.clip(brightness + contrast * rgb, 0, 255)
    return pictures
