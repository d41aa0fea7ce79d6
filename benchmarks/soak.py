"""Soak test: index, change, query and compact for N minutes to find memory and file leaks.

``python -m benchmarks.soak --minutes 10`` prints one line per minute and, at the end, the growth in
the second half as a slope. It writes results/soak.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

import mmsearch

PHOTOS = Path(__file__).parents[1] / "tests/photos/photos"
RESULTS = Path(__file__).parent / "results/soak.json"
QUERIES = ("a dog", "a boat", "-people + street", "something red", "an animal")


def resident_mb() -> float:
    """Return the resident memory of this process, in megabytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def open_files() -> int:
    """Return the number of open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def change_files(folder: Path, photos: list[Path], rng: random.Random) -> None:
    """Add, move and delete a few pictures."""
    for path in rng.sample(photos, 4):
        shutil.copy(path, folder / f"{rng.randrange(400)}.jpg")
    existing = sorted(folder.glob("*.jpg"))
    if len(existing) > 60:
        for path in rng.sample(existing, 6):
            path.unlink()
    moved = rng.choice(sorted(folder.glob("*.jpg")))
    moved.rename(folder / f"moved-{rng.randrange(100)}.jpg")


def run_soak(minutes: float) -> dict[str, object]:
    """Run the test and return some samples, and the slopes over the second half of all samples."""
    rng = random.Random(8)
    photos = sorted(PHOTOS.glob("*.jpg"))
    samples: list[dict[str, float]] = []
    rounds = queries = 0
    started_s = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        folder.mkdir()
        for path in photos[:30]:
            shutil.copy(path, folder)
        settings = mmsearch.load_settings().with_flags(model="starter")
        with mmsearch.open_index(home=Path(scratch) / "home", settings=settings) as index:
            while (elapsed_s := time.monotonic() - started_s) < minutes * 60:
                change_files(folder, photos, rng)
                index.add_folder(folder)
                for query in QUERIES:
                    queries += bool(index.search(query))
                rounds += 1
                if rounds % 10 == 0:
                    index.compact()
                    damage = [f for f in index.check() if f.weight == "damage"]
                    if damage:
                        raise SystemExit(f"damage after {rounds} rounds: {damage}")
                size = sum(p.stat().st_size for p in index.folder.rglob("*") if p.is_file())
                sample = {
                    "minutes": elapsed_s / 60,
                    "resident_mb": resident_mb(),
                    "open_files": open_files(),
                    "index_mb": size / 1e6,
                }
                if not samples or int(elapsed_s / 60) > int(samples[-1]["minutes"]):
                    print("  ".join(f"{name} {value:.1f}" for name, value in sample.items()))
                samples.append(sample)
    second_half = samples[len(samples) // 2 :]
    sample_minutes = np.array([sample["minutes"] for sample in second_half])
    slopes = {
        f"{name}_a_minute": float(np.polyfit(sample_minutes, [s[name] for s in second_half], 1)[0])
        for name in ("resident_mb", "open_files", "index_mb")
    }
    ends = {"first": samples[0], "middle": second_half[0], "last": samples[-1]}
    return {"minutes": minutes, "rounds": rounds, "queries": queries, **ends, **slopes}


def main() -> None:
    """Parse the arguments, run the test, and print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    results = run_soak(parser.parse_args().minutes)
    print(json.dumps(results, indent=2))
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
