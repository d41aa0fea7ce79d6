"""Study of duplicates: groups found among copies, crops and bursts, and the time at a million.

The pictures are made from the photographs of tests/photos, which no threshold was chosen on; those
were chosen on Debian's wallpapers and the Tux Paint stamps. Pages, tables and windows that look
alike are among them, and each photograph is taken 20 seconds after the one before.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from scipy.stats import beta

import mmsearch
from benchmarks.quality.duplicate_pictures import (
    BURST,
    MadePicture,
    iter_pages,
    iter_pictures,
)
from mmsearch.core.duplicates import NO_TIME, PictureLooks
from mmsearch.core.vectors import as_float32, as_unit_vectors
from mmsearch.indexing.duplicates import find_pairs, measure_baseline
from mmsearch.indexing.groups import update_groups
from mmsearch.modalities import image as image_modality
from mmsearch.modalities._perceptual_hash import perceptual_hash

SEED = 2026
SIZES = (25_000, 50_000, 100_000, 250_000, 1_000_000)
KNOWN_COPIES = frozenset({"163962c92c", "258f1a81b2", "8e861096fc"})
"""Photographs of the set that are copies of others."""

HASHED_EDGE_PX = 260
DIM = 384
EFFECTIVE_BITS = 28
BLOCK = 65_536
NUM_PAGES = 120
FIRST_PAGE = 1_000_000
"""Number of the first picture that has no duplicates, above those of the photographs."""

CAMERA = ("Example", "Camera 1")


def write_pictures(pictures: Iterable[MadePicture], folder: Path) -> dict[str, tuple[int, str]]:
    """Write pictures as JPEG files; return the family and the change of each, by file name."""
    truth = {}
    for number, made in enumerate(pictures):
        name = f"{number:06d}.jpg"
        exif = Image.Exif()
        if made.taken_at is not None:
            exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = CAMERA
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = (
                made.taken_at.strftime("%Y:%m:%d %H:%M:%S")
            )
        made.image.save(folder / name, "JPEG", quality=made.quality, exif=exif)
        truth[name] = made.family, made.change
    return truth


def read_groups(index: mmsearch.Index) -> dict[str, tuple[int, int]]:
    """Return the near group and the stack of each file of an index that has duplicates."""
    with closing(sqlite3.connect(index.folder / "catalog.sqlite")) as db:
        rows = db.execute(
            "SELECT assets.key, near_id, stack_id FROM duplicates JOIN assets USING (content_id)"
        ).fetchall()
    return {key.decode(): (near, stack) for key, near, stack in rows}


def judge(truth: dict[str, tuple[int, str]], groups: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Return counts of pairs: found, right, wrong, and by change."""
    families: dict[int, list[str]] = defaultdict(list)
    for name, (family, _) in truth.items():
        families[family].append(name)
    by_change: dict[str, list[int]] = {}
    totals = {kind: [0, 0] for kind in ("near", "all")}
    for names in families.values():
        for position, left in enumerate(names):
            for right in names[position + 1 :]:
                changes = truth[left][1], truth[right][1]
                same_near = _same(groups, left, right, 0)
                same_stack = _same(groups, left, right, 1)
                is_burst = BURST in changes
                _count(totals["all"], same_stack)
                if not is_burst:
                    _count(totals["near"], same_near)
                if not changes[0]:
                    _count(
                        by_change.setdefault(changes[1], [0, 0]),
                        same_stack if is_burst else same_near,
                    )
    wrong = [(left, right) for stack in _members(groups, 1) for left, right in _wrong(stack, truth)]
    wrong_near = [pair for near in _members(groups, 0) for pair in _wrong(near, truth)]
    return {
        "pictures": len(truth),
        "families": len(families),
        "near": {"found": totals["near"][0], "pairs": totals["near"][1], "wrong": len(wrong_near)},
        "all": {"found": totals["all"][0], "pairs": totals["all"][1], "wrong": len(wrong)},
        "changes": by_change,
        "wrong_pages": sum(truth[left][0] >= FIRST_PAGE for left, _ in wrong),
    }


def _same(groups: dict[str, tuple[int, int]], left: str, right: str, kind: int) -> bool:
    return left in groups and right in groups and groups[left][kind] == groups[right][kind]


def _count(counts: list[int], found: bool) -> None:
    counts[0] += found
    counts[1] += 1


def _members(groups: dict[str, tuple[int, int]], kind: int) -> list[list[str]]:
    members: dict[int, list[str]] = defaultdict(list)
    for name, group in groups.items():
        members[group[kind]].append(name)
    return list(members.values())


def _wrong(group: Sequence[str], truth: dict[str, tuple[int, str]]) -> list[tuple[str, str]]:
    return [
        (left, right)
        for position, left in enumerate(group)
        for right in group[position + 1 :]
        if truth[left][0] != truth[right][0]
    ]


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95% interval of a proportion (Clopper and Pearson)."""
    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return float(low), float(high)


def load_originals(photos: Path) -> list[Image.Image]:
    """Return every second photograph, without those that show another one of the set."""
    paths = [
        path for path in sorted((photos / "photos").iterdir()) if path.stem not in KNOWN_COPIES
    ]
    originals = []
    for path in paths[::2]:
        with Image.open(path) as image:
            originals.append(image.convert("RGB"))
    return originals


def measure_hash(photos: Path) -> dict[str, float]:
    """Return milliseconds of processor time that decoding and hashing take, per photograph."""
    reader = image_modality.build()
    paths = [os.fsencode(path) for path in sorted((photos / "photos").iterdir())]
    started = time.process_time()
    pixels = [reader.read(path, HASHED_EDGE_PX).pixels for path in paths]
    decoded = time.process_time()
    for each in pixels:
        perceptual_hash(each)
    hashed = time.process_time()
    return {
        "decode_ms": 1000 * (decoded - started) / len(paths),
        "hash_ms": 1000 * (hashed - decoded) / len(paths),
    }


class ArrayRows:
    """Image vectors in memory, in place of those of segments.

    Args:
        vectors: float16 (n, dim), by id.
    """

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        self._vectors = vectors

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return unit vectors by ids, float32 (n, dim)."""
        return as_unit_vectors(as_float32(self._vectors[ids]))


def make_looks(count: int) -> tuple[PictureLooks, ArrayRows, NDArray[np.int64]]:
    """Return made pictures, a fifth of which are copies of others, and the original of each copy.

    Vectors are around 2,000 centres with a common mean, as those of encoders are. Hashes have as
    many close pairs as those of photographs, and those of copies differ in up to 14 bits.
    """
    rng = np.random.default_rng(SEED)
    originals = count * 4 // 5
    centres = rng.standard_normal((2000, DIM)).astype(np.float32)
    mean = rng.standard_normal(DIM).astype(np.float32)
    mixing = rng.standard_normal((EFFECTIVE_BITS, 63)).astype(np.float32)
    vectors = np.empty((count, DIM), dtype=np.float16)
    hashes = np.zeros(count, dtype=np.int64)
    for start in range(0, originals, BLOCK):
        rows = slice(start, min(start + BLOCK, originals))
        size = rows.stop - rows.start
        noise = rng.standard_normal((size, DIM)).astype(np.float32)
        vectors[rows] = mean + 0.55 * centres[rng.integers(0, 2000, size)] + 0.75 * noise
        mixed = rng.standard_normal((size, EFFECTIVE_BITS)).astype(np.float32) @ mixing
        mixed += 2 * rng.standard_normal((size, 63)).astype(np.float32)
        bits = (mixed > np.median(mixed, axis=1, keepdims=True)).astype(np.int64)
        hashes[rows] = (bits << np.arange(63)).sum(axis=1)
    sources = rng.integers(0, originals, count - originals)
    noise = rng.standard_normal((len(sources), DIM)).astype(np.float32)
    vectors[originals:] = vectors[sources] + 0.3 * noise
    order = np.argsort(rng.random((len(sources), 63)), axis=1)
    flipped = np.arange(63) < rng.integers(0, 15, len(sources))[:, None]
    masks = np.where(flipped, np.int64(1) << order.astype(np.int64), 0)
    hashes[originals:] = hashes[sources] ^ np.bitwise_or.reduce(masks, axis=1)
    ids = np.arange(count)
    unknown = np.full(count, NO_TIME)
    looks = PictureLooks(ids, ids, hashes, unknown, np.full(count, -1, dtype=np.int32))
    return looks, ArrayRows(vectors), sources


def measure_time(count: int) -> dict[str, Any]:
    """Return the time of grouping that many made pictures at once, and the copies found."""
    looks, rows, sources = make_looks(count)
    started, cpu_started = time.monotonic(), time.process_time()
    baseline = measure_baseline(looks, rows)
    pairs = find_pairs(looks, np.ones(count, dtype=bool), rows, baseline)
    groups = update_groups([], pairs.near.tolist(), pairs.burst.tolist(), {})
    wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu_started
    near = {row.content_id: row.near_id for row in groups}
    first = count - len(sources)
    found = sum(
        copy in near and near[copy] == near.get(source)
        for copy, source in enumerate(sources.tolist(), start=first)
    )
    return {"pictures": count, "wall_s": wall_s, "cpu_s": cpu_s, "found": found / len(sources)}


def measure(photos: Path) -> dict[str, Any]:
    """Return the groups found among made pictures, the cost of hashes, and the time of grouping."""
    with tempfile.TemporaryDirectory() as folder:
        library, home = Path(folder) / "library", Path(folder) / "home"
        library.mkdir()
        originals = load_originals(photos)
        made = chain(iter_pictures(originals, SEED), iter_pages(NUM_PAGES, FIRST_PAGE, SEED))
        truth = write_pictures(made, library)
        with mmsearch.open_index("duplicates", home=home, model="starter") as index:
            index.add_folder(library)
        found = judge(truth, read_groups(index))
    return {
        "found": found,
        "hash": measure_hash(photos),
        "time": [measure_time(count) for count in SIZES],
    }


def page(results: Any) -> str:
    """Return the results as a part of RESULTS.md."""
    found, cost = results["found"], results["hash"]
    lines = [
        "## Duplicates\n",
        f"{found['pictures']:,} pictures made of {found['families'] - NUM_PAGES} photographs of"
        f" tests/photos and {NUM_PAGES} pages, tables, windows and plain areas; thresholds were chosen"
        " on wallpapers and stamps. Each photograph is taken 20 seconds after the one before, and its"
        " copies keep that time, except web exports and those of a quarter of the size. All pairs"
        " of pictures of one photograph count, also those of two copies. 95% intervals in brackets"
        " (pairs of one photograph depend on each other, so they are somewhat too narrow).\n",
        "| pairs | number | recall | wrong pairs | precision |",
        "|---|---|---|---|---|",
    ]
    for kind, name in (("near", "near duplicates"), ("all", "near duplicates and bursts")):
        counts = found[kind]
        right, wrong = counts["found"], counts["wrong"]
        lines.append(
            f"| {name} | {counts['pairs']:,} | {_share(right, counts['pairs'])} | {wrong} |"
            f" {_share(right, right + wrong)} |"
        )
    lines += [
        "",
        "| change of the original | found | share |",
        "|---|---|---|",
        *(
            f"| {name} | {right} of {number} | {_share(right, number)} |"
            for name, (right, number) in found["changes"].items()
        ),
        "",
        f"A hash takes {cost['hash_ms']:.2f} ms of processor time a photograph of 512 pixels, decoding"
        f" {cost['decode_ms']:.2f} ms; encoding takes far longer.",
        "",
        "Grouping of made pictures at once, of which a fifth are copies with up to 14 other bits and"
        f" {DIM} dimensions; two processors, which others used, too:",
        "",
        "| pictures | processor time, s | wall time, s | copies found |",
        "|---|---|---|---|",
        *(
            f"| {row['pictures']:,} | {row['cpu_s']:.1f} | {row['wall_s']:.1f} | {row['found']:.3f} |"
            for row in results["time"]
        ),
    ]
    return "\n".join(lines) + "\n"


def _share(successes: int, trials: int) -> str:
    low, high = interval(successes, trials)
    return f"{successes / max(trials, 1):.3f} [{low:.3f}, {high:.3f}]"
