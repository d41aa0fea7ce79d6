"""Study of duplicates: groups found among copies, crops and bursts, and the time at a million.

The pictures are made from the photographs of tests/photos, which no threshold was chosen on; those
were chosen on Debian's wallpapers and the Tux Paint stamps. Pages, tables and windows that look
alike are among them, and each photograph is taken 20 seconds after the one before.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image
from scipy.stats import beta

import mmsearch
from benchmarks.quality.duplicate_pictures import (
    BURST,
    MadePicture,
)

SEED = 2026
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
