"""The page of results says what was measured, and what ships is what was measured."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def quality():
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    try:
        from benchmarks import __main__ as quality
    finally:
        del sys.path[:2]
    return quality


def result_of(part):
    return ROOT / f"benchmarks/results/{part}.json"


def stored(part):
    return json.loads(result_of(part).read_text(encoding="utf-8"))


def test_the_page_is_made_of_the_stored_results(quality):
    missing = {part for part in quality.PARTS if not result_of(part).is_file()}
    assert not missing & set(quality.QUALITY)
    there = (part for part in quality.PARTS if part not in missing)
    pages = [quality.PREFACE, *(quality.PARTS[part].page(stored(part)) for part in there)]
    assert (ROOT / "benchmarks/RESULTS.md").read_text(encoding="utf-8") == "\n".join(pages)


def test_the_calibration_that_ships_is_the_one_that_was_fitted():
    from mmsearch.encoders.starter import CALIBRATION

    fitted = stored("confidence")["fitted"]
    assert CALIBRATION.measured
    for name in ("bias", "library", "margin", "null"):
        assert getattr(CALIBRATION, name) == pytest.approx(fitted[name], abs=1e-3)


def test_few_right_first_hits_are_called_unlikely():
    """What the bounds of the bands promise, on the drawings that they were chosen on."""
    from mmsearch.search.confidence import POSSIBLE_THRESHOLD

    trials = {trial["trial"]: trial for trial in stored("confidence")["trials"]}
    unlikely, possible, likely = trials["stamps, drawings only"]["bands"]
    right = [band["hits"] * band["relevant"] for band in (unlikely, possible, likely)]
    assert possible["from"] == POSSIBLE_THRESHOLD
    assert right[0] / sum(right) < 1 / 20


def test_hybrid_ranking_loses_to_neither_part_by_more_than_its_interval():
    for condition in stored("fusion")["conditions"]:
        for system, own in condition["against_better_part"].items():
            for metric, (_, _, high) in own.items():
                assert high >= 0, (condition["coverage"], condition["misplaced"], system, metric)


def test_misplaced_titles_all_stand_with_another_photograph(quality):
    rows = [{"path": f"{n}.jpg", "source_title": f"title {n}"} for n in range(40)]
    titles = quality.fusion.assign_titles(rows, 0.5, 0.2)
    assert len(titles) == 20
    moved = [p for p, title in titles.items() if title != f"title {p.removesuffix('.jpg')}"]
    assert len(moved) == 4
    assert len(set(titles.values())) == 20


def test_without_a_gpu_it_says_so_and_writes_nothing(quality, monkeypatch, capsys):
    monkeypatch.setattr(quality.torch.cuda, "is_available", lambda: False)
    files = {file: file.stat().st_mtime_ns for file in (ROOT / "benchmarks").rglob("*.[jm][sd]*")}
    assert quality.main(["--gpu"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no NVIDIA GPU" in err
    after = {file: file.stat().st_mtime_ns for file in (ROOT / "benchmarks").rglob("*.[jm][sd]*")}
    assert after == files
