"""Study of texts in pictures: words found on signs and scans, false ones, and what reading costs.

The signs are drawn over photographs of tests/photos: with and without a plate, turned by up to 20
degrees, a fifth blurred. The scans are pages of words with noise, turned by a degree. The fonts are
those of matplotlib.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from mmsearch.core.derived import EnricherOptions
from mmsearch.core.types import Pixels
from mmsearch.enrichers import ocr
from mmsearch.modalities import image

SEED = 0
SIGNS = (
    *("EXIT", "NO SMOKING", "Fire Door", "Keep Clear", "BAKERY", "Platform 9", "Ticket Office"),
    *("Danger", "HARBOUR STREET", "Open Daily", "Museum", "ONE WAY", "Private Property"),
    *("Post Office", "Bus Stop", "Coffee and Cake", "Please Ring", "Room 214", "Sale 50"),
    *("Emergency Telephone", "Lost Property", "Staff Only", "Gift Shop", "Wet Paint"),
)
FONTS = (
    *("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Bold.ttf"),
    *("DejaVuSansMono.ttf", "STIXGeneral.ttf", "STIXGeneralBol.ttf"),
)
NUM_SCANS = 4
WORDS_PER_SCAN = 150
NUM_PHOTOS = 30
LETTER_HEIGHTS = (8, 10, 12, 14, 18)


def draw_sign(number: int, photo: Path) -> Pixels:
    """Return a sign over a photograph: uint8 (height, width, 3)."""
    generator = random.Random(f"{SEED}-{number}")
    size = (1024, 768)
    picture = Image.open(photo).convert("RGB").resize(size)
    font = load_font(FONTS[number % len(FONTS)], generator.randint(36, 90))
    left, top, right, bottom = font.getbbox(SIGNS[number])
    margin = 18
    sign_size = (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin)
    has_plate = number % 2 == 0
    ground = generator.choice([(250, 250, 245), (20, 60, 140), (30, 110, 50), (200, 30, 30)])
    ink = (20, 20, 20) if sum(ground) > 600 else (255, 255, 255)
    sign = Image.new("RGBA", sign_size, (*ground, 255 if has_plate else 0))
    position = (margin - left, margin - top)
    outline = None if has_plate else (0, 0, 0) if ink == (255, 255, 255) else (255, 255, 255)
    ImageDraw.Draw(sign).text(
        position, SIGNS[number], font=font, fill=ink, stroke_fill=outline, stroke_width=2
    )
    turned = sign.rotate(generator.uniform(-20, 20), Image.Resampling.BICUBIC, expand=True)
    room = (max(size[0] - turned.width, 1), max(size[1] - turned.height, 1))
    picture.paste(turned, (generator.randrange(room[0]), generator.randrange(room[1])), turned)
    if number % 5 == 0:
        picture = picture.filter(ImageFilter.GaussianBlur(1.5))
    return np.asarray(picture)


def draw_scan(number: int, words: Sequence[str]) -> tuple[Pixels, list[str]]:
    """Return a scanned page, uint8 (height, width, 3), and its words."""
    generator = random.Random(f"{SEED}-scan-{number}")
    chosen = [generator.choice(words) for _ in range(WORDS_PER_SCAN)]
    page = Image.new("L", (1190, 1684), 245)
    drawing = ImageDraw.Draw(page)
    font = load_font(FONTS[number], 26)
    x, y = 110, 120
    for word in chosen:
        width = int(font.getlength(word + " "))
        if x + width > 1080:
            x, y = 110, y + 44
        drawing.text((x, y), word, font=font, fill=40)
        x += width
    page = page.rotate(generator.choice([-1, 1]), Image.Resampling.BICUBIC, fillcolor=245)
    noise = np.random.default_rng(number).normal(0, 14, (page.height, page.width))
    gray = np.clip(np.asarray(page, np.float64) + noise, 0, 255).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2), chosen


def draw_line(height_px: int, width_px: int) -> Pixels:
    """Return a line with letters of some height in a picture of some width."""
    font = load_font(FONTS[0], round(height_px / 0.73))
    picture = Image.new("RGB", (width_px, width_px * 3 // 4), "white")
    ImageDraw.Draw(picture).text((60, 90), "the quick brown fox jumps", font=font, fill="black")
    return np.asarray(picture)


def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font of matplotlib."""
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts/ttf" / name, size)


def count_found(wanted: Sequence[str], text: str) -> int:
    """Return how many words are in a text, without regard to case."""
    found = re.findall(r"\w+", text.casefold())
    count = 0
    for word in wanted:
        if word.casefold() in found:
            found.remove(word.casefold())
            count += 1
    return count


def measure(photos: Path) -> Any:
    """Return shares of words, false finds and CPU seconds as JSON values."""
    reader = ocr.build(EnricherOptions())
    paths = sorted((photos / "photos").glob("*.jpg"))
    random.Random(SEED).shuffle(paths)
    reader.read(draw_sign(0, paths[0]))

    def read(pixels: Pixels) -> tuple[str, float]:
        started_at = time.process_time()
        text = " ".join(text.text for text in reader.read(pixels))
        return text, time.process_time() - started_at

    signs = []
    for number, sign in enumerate(SIGNS):
        text, seconds = read(draw_sign(number, paths[number]))
        words = re.findall(r"\w+", sign)
        signs.append(
            {"words": len(words), "found": count_found(words, text), "text": text, "s": seconds}
        )
    vocabulary = sorted({word for path in photos.glob("captions.csv") for word in _words(path)})
    scans = []
    for number in range(NUM_SCANS):
        pixels, words = draw_scan(number, vocabulary)
        text, seconds = read(pixels)
        scans.append({"words": len(words), "found": count_found(words, text), "s": seconds})
    plain = []
    modality = image.build()
    for path in paths[len(SIGNS) : len(SIGNS) + NUM_PHOTOS]:
        started_at = time.process_time()
        (item,) = modality.items(bytes(path), reader.edge_px)
        decode_s = time.process_time() - started_at
        text, seconds = read(item.pixels)
        plain.append({"path": path.name, "text": text, "s": seconds, "decode_s": decode_s})
    letters = [
        {
            "height_px": height,
            "width_px": width,
            "found": count_found(
                ["the", "quick", "brown", "fox", "jumps"], read(draw_line(height, width))[0]
            ),
        }
        for width in (1024, 2048)
        for height in LETTER_HEIGHTS
    ]
    return {"signs": signs, "scans": scans, "photos": plain, "letters": letters}


def _words(path: Path) -> list[str]:
    return re.findall(r"[a-z]{3,}", path.read_text(encoding="utf-8"))


def page(results: Any) -> str:
    """Return the results as a part of RESULTS.md."""
    signs, scans, plain = results["signs"], results["scans"], results["photos"]
    with_text = [row for row in plain if row["text"]]
    lines = [
        "## Texts in pictures\n",
        "One thread; CPU seconds of reading, without decoding. Signs: words drawn over photographs,"
        " turned by up to 20 degrees, a fifth blurred. Scans: pages with noise, turned by a degree.\n",
        "| pictures | number | words found | CPU s, mean | most |",
        "|---|---|---|---|---|",
        _row("signs", signs),
        _row("scans", scans),
        f"| photographs | {len(plain)} | | {_mean(plain):.2f} | {max(r['s'] for r in plain):.2f} |",
        "",
        f"Text was reported on {len(with_text)} of the {len(plain)} photographs: "
        + "; ".join(f"{row['path']}: {row['text']!r}" for row in with_text)
        + ".",
        "",
        "Words found of five, by the height of the letters:",
        "",
        "| width of the picture | " + " | ".join(f"{h} px" for h in LETTER_HEIGHTS) + " |",
        "|---|" + "---|" * len(LETTER_HEIGHTS),
    ]
    for width in (1024, 2048):
        found = [row["found"] for row in results["letters"] if row["width_px"] == width]
        lines.append(f"| {width} px | " + " | ".join(map(str, found)) + " |")
    return "\n".join(lines) + "\n"


def _row(name: str, rows: Sequence[Any]) -> str:
    found, words = sum(row["found"] for row in rows), sum(row["words"] for row in rows)
    return (
        f"| {name} | {len(rows)} | {found} of {words} | {_mean(rows):.2f} "
        f"| {max(row['s'] for row in rows):.2f} |"
    )


def _mean(rows: Sequence[Any]) -> float:
    return float(np.mean([row["s"] for row in rows]))
