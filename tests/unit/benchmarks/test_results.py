"""The results page shows the stored measurements, and the shipped values match them."""

import json
import sys
from pathlib import Path

import pytest

from mmsearch.encoders.starter.calibration import SPACE_VERSION, load_calibration
from mmsearch.search.hits import LIKELY_THRESHOLD, POSSIBLE_THRESHOLD

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
    calibration = load_calibration(SPACE_VERSION)
    assert calibration.measured
    for name, fitted in stored("confidence")["fitted"].items():
        for coefficient, value in fitted.items():
            shipped = getattr(getattr(calibration, name), coefficient)
            assert shipped == pytest.approx(value, abs=1e-3)


def test_confidence_results_bands_keep_their_promise():
    """Likely first hits are right in 75% at least on the sets that percentages are fitted to.

    Possible ones are right in 25% to 75% on every set that only judges.
    """
    results = stored("confidence")
    assert results["thresholds"] == {"likely": LIKELY_THRESHOLD, "possible": POSSIBLE_THRESHOLD}
    choices = {row["threshold"]: row["relevant"] for row in results["choices"]}
    assert choices[LIKELY_THRESHOLD] >= 0.75
    judges = [trial for trial in results["trials"] if not trial["fitted"]]
    possible = [
        trial["bands"][1]["present_relevant"][0] for trial in judges if trial["pictures"] == 200
    ]
    assert all(0.25 <= share < 0.75 for share in possible)


def test_confidence_results_shipped_map_is_the_best_candidate(quality):
    best = min(stored("confidence")["candidates"], key=lambda row: row["loss"])
    shipped = load_calibration(SPACE_VERSION)
    assert shipped.background.residual == best["residual"] == quality.confidence.RESIDUAL
    assert (shipped.texts.margin > 0) == best["margin"] == quality.confidence.WITH_MARGIN


def test_confidence_results_error_on_wallpapers_is_small_in_libraries_of_all_sizes():
    trials = [t for t in stored("confidence")["trials"] if t["trial"].startswith("wallpapers")]
    assert [trial["pictures"] for trial in trials] == [200, 2000, 20_000]
    assert all(trial["error"][0] <= 0.10 for trial in trials)


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
