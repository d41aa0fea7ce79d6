"""Pictures with known duplicates, made from others: copies, crops, bursts and look-alikes."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

Change = Callable[[Image.Image, random.Random], Image.Image]

START = datetime(2026, 3, 1, 9, tzinfo=UTC)
SECONDS_BETWEEN = 20
"""Seconds between two photographs in the order of their names: no time alone tells bursts apart."""

BURST_FRAMES = 3
_WORDS = [
    "account",
    "amount",
    "annual",
    "balance",
    "budget",
    "change",
    "client",
    "contract",
    "customer",
    "date",
    "delivery",
    "draft",
    "final",
    "income",
    "invoice",
    "item",
    "letter",
    "meeting",
    "minutes",
    "month",
    "note",
    "number",
    "offer",
    "order",
    "page",
    "payment",
    "plan",
    "price",
    "project",
    "quarter",
    "rate",
    "report",
    "result",
    "review",
    "sales",
    "share",
    "summary",
    "table",
    "task",
    "tax",
    "term",
    "total",
    "update",
    "version",
    "week",
    "year",
]


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(16, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _cropped(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """Return a picture without a share of its width and of its height, cut off at random sides."""
    width, height = image.size
    left, top = rng.uniform(0, share * width), rng.uniform(0, share * height)
    box = (left, top, left + (1 - share) * width, top + (1 - share) * height)
    return image.crop(tuple(map(round, box)))


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _web_export(image: Image.Image, rng: random.Random) -> Image.Image:
    small = _scaled(image, 0.6).filter(ImageFilter.UnsharpMask(1, 60, 2))
    return _jpeg(small, 75)


def _frame(image: Image.Image, rng: random.Random) -> Image.Image:
    """Return the same view a moment later: the camera has moved, and the light has changed."""
    share = rng.uniform(0.02, 0.1)
    turned = image.rotate(rng.uniform(-2, 2), Image.Resampling.BICUBIC)
    inner = _cropped(turned, 0.08, random.Random(0.5))
    moved = _cropped(inner, share, rng).resize(image.size, Image.Resampling.BICUBIC)
    return ImageEnhance.Brightness(moved).enhance(rng.uniform(0.94, 1.06))


CHANGES: dict[str, Change] = {
    "half size": lambda image, rng: _scaled(image, 0.5),
    "quarter size": lambda image, rng: _scaled(image, 0.25),
    "JPEG quality 60": lambda image, rng: _jpeg(image, 60),
    "JPEG quality 30": lambda image, rng: _jpeg(image, 30),
    "crop by 5%": lambda image, rng: _cropped(image, 0.05, rng),
    "crop by 10%": lambda image, rng: _cropped(image, 0.10, rng),
    "brightness": lambda image, rng: ImageEnhance.Brightness(image).enhance(
        rng.choice((0.85, 1.15))
    ),
    "contrast": lambda image, rng: ImageEnhance.Contrast(image).enhance(rng.choice((0.85, 1.2))),
    "colour": lambda image, rng: ImageEnhance.Color(image).enhance(rng.choice((0.7, 1.3))),
    "web export": _web_export,
    "sharpened": lambda image, rng: image.filter(ImageFilter.UnsharpMask(2, 120, 2)),
    "grey": lambda image, rng: image.convert("L").convert("RGB"),
}
"""Changes that make a near duplicate, by name."""

BURST = "burst"


@dataclass(frozen=True)
class MadePicture:
    """A picture of a set.

    Attributes:
        image: The picture.
        family: Number of the picture that it shows; equal for duplicates.
        change: A key of `CHANGES`, `BURST`, or "" for the original.
        taken_at: When it was taken, if it says so.
        quality: Quality of its JPEG file.
    """

    image: Image.Image
    family: int
    change: str
    taken_at: datetime | None
    quality: int = 90


def iter_pictures(originals: Sequence[Image.Image], seed: int) -> Iterator[MadePicture]:
    """Yield originals with all changes of each, and the frames of a burst of every third one."""
    for family, original in enumerate(originals):
        rng = random.Random(seed * 100_003 + family)
        taken_at = START + timedelta(seconds=SECONDS_BETWEEN * family)
        yield MadePicture(original, family, "", taken_at)
        for change, make in CHANGES.items():
            # Exports and messengers drop the date; editors keep it.
            kept = None if change in ("web export", "quarter size") else taken_at
            yield MadePicture(make(original, rng), family, change, kept, rng.choice((80, 88, 95)))
        if family % 3 == 0:
            for number in range(1, BURST_FRAMES + 1):
                moment = taken_at + timedelta(seconds=2 * number)
                yield MadePicture(_frame(original, rng), family, BURST, moment)


def iter_pages(count: int, first_family: int, seed: int) -> Iterator[MadePicture]:
    """Yield pictures that look alike but are not: pages of text, tables, windows, plain areas."""
    rng = random.Random(seed)
    makers = (_text_page, _table, _window, _plain)
    for number in range(count):
        page = makers[number % len(makers)](rng)
        taken_at = START + timedelta(seconds=SECONDS_BETWEEN * number)
        yield MadePicture(page, first_family + number, "", taken_at)


def _sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(words))


def _text_page(rng: random.Random) -> Image.Image:
    page = Image.new("RGB", (620, 876), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    draw.text((60, 60), _sentence(rng, 3).capitalize(), "black", ImageFont.load_default(26))
    lines = rng.randint(12, 34)
    for row in range(lines):
        draw.text((60, 120 + 21 * row), _sentence(rng, rng.randint(4, 9)), "black", font)
    return page


def _table(rng: random.Random) -> Image.Image:
    page = Image.new("RGB", (800, 600), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    rows, columns = rng.randint(6, 18), rng.randint(3, 7)
    for row in range(rows):
        draw.line((40, 60 + 28 * row, 760, 60 + 28 * row), "grey")
        for column in range(columns):
            text = rng.choice(_WORDS) if column == 0 else str(rng.randint(1, 9999))
            draw.text((50 + 720 // columns * column, 64 + 28 * row), text, "black", font)
    return page


def _window(rng: random.Random) -> Image.Image:
    screen = Image.new("RGB", (1024, 640), (236, 238, 242))
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(15)
    draw.rectangle((0, 0, 1024, 36), (52, 58, 70))
    draw.rectangle((0, 36, 200, 640), (222, 226, 232))
    for row in range(rng.randint(5, 16)):
        draw.text((16, 56 + 30 * row), rng.choice(_WORDS), (40, 40, 40), font)
    for _ in range(rng.randint(1, 5)):
        left, top = rng.randint(220, 760), rng.randint(50, 480)
        colour = tuple(rng.randint(120, 255) for _ in range(3))
        draw.rectangle((left, top, left + rng.randint(80, 250), top + rng.randint(40, 150)), colour)
        draw.text((left + 8, top + 8), _sentence(rng, 2), "black", font)
    return screen


def _plain(rng: random.Random) -> Image.Image:
    return Image.new("RGB", (640, 480), tuple(rng.randint(0, 255) for _ in range(3)))
