"""The results page shows the stored measurements, and the shipped values match them."""

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


def test_results_page_equals_pages_of_stored_results(quality):
    missing = {part for part in quality.PARTS if not result_of(part).is_file()}
    assert not missing & set(quality.QUALITY)
    there = (part for part in quality.PARTS if part not in missing)
    pages = [quality.PREFACE, *(quality.PARTS[part].page(stored(part)) for part in there)]
    assert (ROOT / "benchmarks/RESULTS.md").read_text(encoding="utf-8") == "\n".join(pages)


def test_starter_calibration_equals_fitted_values_of_results():
    from mmsearch.encoders.starter import CALIBRATION

    fitted = stored("confidence")["fitted"]
    assert CALIBRATION.measured
    for name in ("bias", "library", "margin", "null"):
        assert getattr(CALIBRATION, name) == pytest.approx(fitted[name], abs=1e-3)


def test_confidence_results_unlikely_band_holds_few_relevant_hits():
    """The band thresholds keep their promise on the drawings that they were chosen on."""
    from mmsearch.search.hits import POSSIBLE_THRESHOLD

    trials = {trial["trial"]: trial for trial in stored("confidence")["trials"]}
    unlikely, possible, likely = trials["stamps, drawings only"]["bands"]
    right = [band["hits"] * band["relevant"] for band in (unlikely, possible, likely)]
    assert possible["from"] == POSSIBLE_THRESHOLD
    assert right[0] / sum(right) < 1 / 20


def test_fusion_results_hybrid_is_not_significantly_worse_than_better_part():
    for condition in stored("fusion")["conditions"]:
        for system, own in condition["against_better_part"].items():
            for metric, (_, _, high) in own.items():
                assert high >= 0, (condition["coverage"], condition["misplaced"], system, metric)


def test_assign_titles_misplaced_titles_go_to_other_photographs(quality):
    rows = [{"path": f"{n}.jpg", "source_title": f"title {n}"} for n in range(40)]
    titles = quality.fusion.assign_titles(rows, 0.5, 0.2)
    assert len(titles) == 20
    moved = [p for p, title in titles.items() if title != f"title {p.removesuffix('.jpg')}"]
    assert len(moved) == 4
    assert len(set(titles.values())) == 20


def test_quality_benchmark_gpu_option_without_gpu_fails_and_writes_nothing(
    quality, monkeypatch, capsys
):
    monkeypatch.setattr(quality.torch.cuda, "is_available", lambda: False)
    files = {file: file.stat().st_mtime_ns for file in (ROOT / "benchmarks").rglob("*.[jm][sd]*")}
    assert quality.main(["--gpu"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no NVIDIA GPU" in err
    after = {file: file.stat().st_mtime_ns for file in (ROOT / "benchmarks").rglob("*.[jm][sd]*")}
    assert after == files
