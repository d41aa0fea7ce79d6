"""What compiled towers are compared on: inputs of different shapes, and of one item each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmsearch.encoders._tokenizer import TextPreparation

Inputs = list[NDArray[Any]]
"""Of one call of a tower."""

_LINES = (
    "a photo of a red car in front of a house",
    "windmill",
    "two dogs playing on a sunny beach, seen from far above, while a boat goes by",
)

_MORE_LINES = (
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

LIFELIKE = 16
"""Pictures on which a tower in int8 is held to float32."""


def picture_batches(edge_px: int) -> list[Inputs]:
    """Batches of 2, 1 and 3 pictures, uint8 (n, edge, edge, 3)."""
    noise = np.random.default_rng(0)
    shapes = ((n, edge_px, edge_px, 3) for n in (2, 1, 3))
    batches = [noise.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    # Half of each picture is one colour, as no noise is.
    for batch in batches:
        batch[:, edge_px // 2 :] = 200
    return [[batch] for batch in batches]


def single_pictures(edge_px: int) -> list[Inputs]:
    """Pictures such as there are, and one that is half noise."""
    batches = picture_batches(edge_px)
    return [*([picture[None]] for picture in lifelike(edge_px, LIFELIKE)), batches[1]]


def text_batches(text: TextPreparation) -> list[Inputs]:
    """Batches of 3, 1, 1 and 1 texts, of which the last is too long."""
    return [
        list(text.inputs([text.prepare(line) for line in lines]))
        for lines in (_LINES, _LINES[:1], _LINES[1:2], (" ".join(_LINES * 40),))
    ]


def single_texts(text: TextPreparation) -> list[Inputs]:
    """Texts such as are asked, one a call."""
    return [list(text.inputs([text.prepare(line)])) for line in (*_LINES, *_MORE_LINES)]


def lifelike(edge_px: int, count: int) -> NDArray[np.uint8]:
    """uint8 (count, edge, edge, 3): noise with the spectrum of photographs (1/f), of many moods."""
    random = np.random.default_rng(0)
    rows, columns = np.fft.fftfreq(edge_px)[:, None], np.fft.rfftfreq(edge_px)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / edge_px)
    pictures = np.empty((count, edge_px, edge_px, 3), dtype=np.uint8)
    for picture in pictures:
        white = np.fft.rfft2(random.standard_normal((3, edge_px, edge_px)))
        grey, *colours = np.fft.irfft2(white * fall, s=(edge_px, edge_px))
        mixed = np.stack([grey, grey + 0.4 * colours[0], grey + 0.4 * colours[1]], axis=2)
        mixed /= mixed.std()
        level, contrast = random.uniform(70, 180), random.uniform(20, 70)
        picture[:] = np.clip(level + contrast * mixed, 0, 255)
    return pictures
