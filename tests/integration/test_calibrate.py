"""Percentages are fitted to the texts of an index, whatever its encoder."""

from dataclasses import replace

import numpy as np
import pytest

from mmsearch.core.errors import StateError
from mmsearch.core.query import Band, Mode
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import Background, FusionSpec, ScoreMap
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.maintenance import calibrate as module
from mmsearch.maintenance.calibrate import (
    FirstHits,
    calibrate_catalog,
    calibration_error,
    conformal_threshold,
    fit,
    fit_score_map,
    measure_background,
    sample_texts,
)
from mmsearch.search.confidence import apply_calibration, to_probability
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyEncoder, replaced, toy_engine, toy_indexer

MATCHING = 110


def write_toys(folder, *, texts=130):
    """Write 140 pictures; the first MATCHING texts describe their pictures, others do not."""
    folder.mkdir()
    for number in range(140):
        (folder / f"{number:03}.toy").write_text(f"toy {number}")
        if number < texts:
            words = f"toy {number}" if number < MATCHING else f"something else {number}"
            (folder / f"{number:03}.toy.txt").write_text(words)
    return folder


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    home = tmp_path_factory.mktemp("calibrated")
    layout = IndexLayout(home / "index")
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(bytes(write_toys(home / "toys"))))
        report = calibrate_catalog(layout, indexer.catalog, indexer.encoder)
    assert (report.texts, report.is_calibrated) == (130, True)
    assert report.lost <= 0.3
    assert report.error < 0.1
    return layout


def test_calibrated_index_labels_hits_of_its_encoder(layout):
    with toy_engine(layout) as engine:
        found = engine.search_text("toy 3", 5, mode=Mode.VECTOR)
        nothing = engine.search_text("a unicorn", 5, mode=Mode.VECTOR)
    assert found.calibrated
    assert found.hits[0].band is Band.LIKELY
    assert {hit.band for hit in found.hits[1:]} == {Band.UNLIKELY}
    assert not found.notices
    assert nothing.match is Band.UNLIKELY
    assert [notice.code for notice in nothing.notices] == ["best_guesses"]
    assert "'a unicorn'" in nothing.notices[0].text


def test_calibration_of_another_encoder_is_not_used(layout, monkeypatch):
    with toy_engine(layout) as engine:
        stored = apply_calibration
        monkeypatch.setattr(
            "mmsearch.search.engine.apply_calibration",
            lambda own, encoder: stored(replace(own, encoder="another"), encoder),
        )
        result = engine.search_text("toy 3", 5, mode=Mode.VECTOR)
    assert not result.calibrated
    assert not result.notices


def test_index_with_few_texts_is_not_calibrated(tmp_path):
    layout = IndexLayout(tmp_path / "index")
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(bytes(write_toys(tmp_path / "toys", texts=12))))
        report = calibrate_catalog(layout, indexer.catalog, indexer.encoder)
        assert (report.texts, report.is_calibrated) == (12, False)
        with indexer.catalog.snapshot() as snapshot:
            assert snapshot.calibration is None
    toys = {(module, "load_index_encoder"): lambda identity, settings, on_message: ToyEncoder()}
    with replaced(toys), pytest.raises(StateError, match=r"needs 100 .* has 12\."):
        module.calibrate(layout, Settings(), print, 0, lambda state: None)


def test_sample_texts_leaves_out_file_names_and_texts_of_many_pictures(tmp_path):
    folder = write_toys(tmp_path / "toys", texts=10)
    for number in range(5, 10):
        (folder / f"{number:03}.toy.txt").write_text("OLYMPUS DIGITAL CAMERA")
    layout = IndexLayout(tmp_path / "index")
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(bytes(folder)))
        texts = sample_texts(indexer.catalog)
        assert sorted(texts.values()) == [f"toy {number}" for number in range(5)]
        assert len(sample_texts(indexer.catalog, limit=3)) == 3


@pytest.mark.parametrize("fusion", ["weighted", "concat"])
def test_own_texts_in_fused_vectors_do_not_make_hits_certain(tmp_path, fusion):
    """Texts that describe no picture must not look like good queries."""
    folder = write_toys(tmp_path / "toys", texts=0)
    for number in range(140):
        (folder / f"{number:03}.toy.txt").write_text(f"something else {number}")
    layout = IndexLayout(tmp_path / "index")
    with toy_indexer(layout, fusion=FusionSpec(fusion, 0.5)) as indexer:
        indexer.run(IndexRequest(bytes(folder)))
        calibrate_catalog(layout, indexer.catalog, indexer.encoder)
    with toy_engine(layout) as engine:
        result = engine.search_text("something else 3", 5, mode=Mode.VECTOR)
    assert result.calibrated
    assert max(hit.confidence for hit in result.hits) < 0.2


# --- fits ---


def simulated_hits(count, seed, score_map=ScoreMap(-3.0, 0.5, 6.0)):  # noqa: B008 - frozen
    """Return features of hits whose relevance has the probabilities of a map."""
    random = np.random.default_rng(seed)
    std = random.uniform(0.05, 0.2, count)
    above_mean = std * random.normal(2.0, 2.5, count)
    probabilities = to_probability(above_mean, std, score_map)
    return above_mean, std, random.random(count) < probabilities, probabilities


@pytest.mark.parametrize("seed", range(5))
def test_fitted_probabilities_are_right(seed):
    above_mean, std, relevant, _ = simulated_hits(4000, seed)
    fitted = fit_score_map(above_mean, std, relevant, np.ones(4000))
    new_above_mean, new_std, new_relevant, truth = simulated_hits(4000, seed + 100)
    said = to_probability(new_above_mean, new_std, fitted)
    assert np.abs(said - truth).max() < 0.08
    assert calibration_error(said, new_relevant, np.ones(4000)) < 0.03


def test_fitted_map_never_falls_with_the_score():
    above_mean, std, relevant, _ = simulated_hits(500, 0)
    fitted = fit_score_map(above_mean, std, ~relevant, np.ones(500))
    assert fitted.deviations == fitted.margin == 0.0
    assert to_probability(np.zeros(1), 0.1, fitted)[0] == pytest.approx(
        (~relevant).mean(), abs=0.02
    )


def test_fit_with_perfect_separation_is_finite():
    above_mean = np.array([0.1, 0.1, 0.9, 0.9])
    fitted = fit_score_map(above_mean, np.full(4, 0.1), above_mean > 0.5, np.ones(4))
    low, high = to_probability(np.array([0.1, 0.9]), 0.1, fitted)
    assert low < 0.3
    assert 0.7 < high < 1.0


@pytest.mark.parametrize("count", [19, 50, 200])
def test_conformal_threshold_loses_at_most_its_share(count):
    random = np.random.default_rng(count)
    lost = [
        (random.beta(2, 3, 200) < conformal_threshold(random.beta(2, 3, count), 0.05)).mean()
        for _ in range(400)
    ]
    assert 0.5 * 0.05 < np.mean(lost) <= 0.05 + 0.01


def test_conformal_threshold_of_too_few_values_is_zero():
    assert conformal_threshold(np.full(18, 0.5), 0.05) == 0.0
    assert conformal_threshold(np.full(19, 0.5), 0.05) == 0.5


def test_fit_reports_what_other_texts_get():
    random = np.random.default_rng(0)
    vectors = as_unit_vectors(random.normal(size=(400, 8)))
    background = Background(np.zeros(8, np.float32), 0.1 * np.eye(8, dtype=np.float32))
    own, others = random.normal(0.6, 0.1, 400), random.normal(0.2, 0.05, 400)
    fitted = fit(FirstHits(vectors, own, others, background))
    assert fitted.lost <= 0.08
    assert fitted.rejected > 0.9
    assert fitted.error < 0.1


def test_calibration_error_of_known_values():
    said = np.array([0.2] * 10 + [0.8] * 10)
    right = np.array([True] * 5 + [False] * 5 + [True] * 8 + [False] * 2)
    assert calibration_error(said, right, np.ones(20), bins=2) == pytest.approx(0.15)


def test_measured_background_has_mean_and_variances_of_vectors():
    rows = as_unit_vectors(np.random.default_rng(0).normal(0.5, 1, (300, 6)))
    background = measure_background(rows, rank=6)
    np.testing.assert_allclose(background.mean, rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(
        background.factors.T @ background.factors, np.cov(rows.T, bias=True), atol=1e-6
    )
