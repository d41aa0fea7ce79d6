from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.query import Band, Term
from mmsearch.core.records import IndexCalibration
from mmsearch.core.types import Background, Calibration, ScoreMap
from mmsearch.core.vectors import as_unit_vectors, row_scores
from mmsearch.search.confidence import (
    apply_calibration,
    best_guesses,
    encode_background,
    is_calibrated,
    look_confidences,
    score_features,
    to_probability,
)
from mmsearch.search.hits import (
    LIKELY_THRESHOLD,
    POSSIBLE_THRESHOLD,
    combine_with_text,
    to_band,
)
from mmsearch.search.retrieval import Candidates, ScoreDistribution
from tests.toy_index import ToyEncoder

DIM = 8
MAPS = [ScoreMap(), ScoreMap(-4.0, deviations=0.3, margin=9.0)]
scores = st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20)


def vectors(count, seed=0):
    return as_unit_vectors(np.random.default_rng(seed).normal(0.3, 1, (count, DIM)))


BACKGROUND = Background(np.full(DIM, 0.1, np.float32), 0.2 * np.eye(DIM, dtype=np.float32)[:3])
CALIBRATION = Calibration(MAPS[1], ScoreMap(-6.0, 0.2, 8.0), BACKGROUND, measured=True)


def confidences(terms, query_vectors, pictures, calibration=CALIBRATION, *, fused=False):
    """Return the confidences of pictures; in a fused index their fused vectors are others."""
    visual = row_scores(-pictures if fused else pictures, query_vectors[0])
    candidates = Candidates(
        np.arange(len(pictures)),
        visual.astype(np.float64),
        np.zeros(len(pictures), np.float32),
        np.zeros(len(pictures), np.float32),
        visual,
        query_vectors[:1],
        ScoreDistribution.from_scores(visual),
    )
    scope = SimpleNamespace(
        has_image_vectors=not fused,
        image_scores=lambda queries, ids: row_scores(pictures[ids], queries[:, None, :]),
    )
    return look_confidences(scope, candidates, terms, query_vectors, calibration)


@pytest.mark.parametrize("score_map", MAPS)
@given(scores, st.floats(0.01, 1))
def test_probability_never_falls_as_score_rises(score_map, raw_scores, std):
    probabilities = to_probability(np.sort(np.array(raw_scores, np.float64)), std, score_map)
    assert (np.diff(probabilities) >= 0).all()
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_score_features_equal_mean_and_std_of_background_pictures():
    pictures, queries = vectors(500), vectors(3, seed=1)
    centred = pictures - pictures.mean(axis=0)
    _, scales, axes = np.linalg.svd(centred, full_matrices=False)
    background = Background(pictures.mean(axis=0), axes * scales[:, None] / np.sqrt(500))
    above_mean, std = score_features(queries @ pictures.T, queries, background)
    expected = queries @ pictures.T
    np.testing.assert_allclose(
        above_mean, expected - expected.mean(axis=1, keepdims=True), atol=1e-5
    )
    np.testing.assert_allclose(std[:, 0], expected.std(axis=1), rtol=1e-4)


def test_score_features_add_variance_of_residual():
    _, plain = score_features(np.zeros((3, 1)), vectors(3), BACKGROUND)
    _, std = score_features(np.zeros((3, 1)), vectors(3), replace(BACKGROUND, residual=0.05))
    np.testing.assert_allclose(std**2, plain**2 + 0.05**2)


def test_confidence_of_pair_is_same_in_libraries_of_any_size():
    pictures, query = vectors(2000), vectors(1, seed=1)
    large = confidences([Term("a dog")], query, pictures)
    for count in (1, 2, 12, 200):
        small = confidences([Term("a dog")], query, pictures[:count])
        np.testing.assert_allclose(small, large[:count], rtol=1e-5)


def test_confidence_is_same_with_every_fusion():
    pictures, query = vectors(12), vectors(1, seed=1)
    np.testing.assert_allclose(
        confidences([Term("a dog")], query, pictures, fused=True),
        confidences([Term("a dog")], query, pictures),
        rtol=1e-5,
    )


@pytest.mark.parametrize("calibration", [CALIBRATION, Calibration()])
@pytest.mark.parametrize("fused", [False, True])
def test_picture_compared_with_itself_is_certain(calibration, fused):
    pictures = vectors(12)
    found = confidences([Term(picture=4)], pictures[3:4], pictures, calibration, fused=fused)
    assert found[3] == 1.0
    assert (np.delete(found, 3) < 0.9).all()


def test_text_with_vector_of_picture_is_not_certain():
    pictures = vectors(12)
    assert confidences([Term("a dog")], pictures[3:4], pictures)[3] < 1.0


def test_pictures_have_their_own_map():
    pictures, query = vectors(12), vectors(1, seed=1)
    as_text = confidences([Term("a dog")], query, pictures)
    as_picture = confidences([Term(picture=99)], query, pictures)
    assert (as_text != as_picture).all()


def test_equal_terms_are_as_probable_as_one():
    pictures, query = vectors(12), vectors(1, seed=1)
    two = confidences([Term("a dog"), Term("a dog", weight=2.0)], query.repeat(2, 0), pictures)
    np.testing.assert_allclose(two, confidences([Term("a dog")], query, pictures), rtol=1e-5)


def test_mixed_query_is_between_its_parts():
    pictures, queries = vectors(12), vectors(2, seed=1)
    text = confidences([Term("a dog")], queries[:1], pictures)
    picture = confidences([Term(picture=99)], queries[1:], pictures)
    mixed = confidences([Term("a dog"), Term(picture=99)], queries, pictures)
    assert (mixed >= np.minimum(text, picture) - 1e-9).all()
    assert (mixed <= np.maximum(text, picture) + 1e-9).all()


def test_negative_term_lowers_confidence_most_where_it_is_shown():
    pictures = vectors(12)
    queries = np.stack([vectors(1, seed=1)[0], pictures[5]])
    alone = confidences([Term("a dog")], queries[:1], pictures)
    without = confidences([Term("a dog"), Term("a cat", weight=-1.0)], queries, pictures)
    assert (without < alone).all()
    assert int(np.argmin(without / alone)) == 5


def test_text_mode_has_no_look_confidence():
    candidates = Candidates(
        np.arange(2), np.ones(2), np.ones(2, np.float32), np.ones(2, np.float32)
    )
    look = look_confidences(SimpleNamespace(), candidates, [Term("a dog")], None, CALIBRATION)
    assert look is None


def test_is_calibrated_needs_map_of_pictures_only_for_pictures():
    own = Calibration(MAPS[1], None, BACKGROUND, measured=True)
    assert is_calibrated([Term("a dog")], own)
    assert not is_calibrated([Term(picture=3)], own)
    assert is_calibrated([Term(picture=3)], CALIBRATION)
    assert not is_calibrated([Term("a dog")], Calibration())


def stored_calibration(toy, **changes):
    rows = np.eye(toy.spec.dim, dtype=np.float32)
    values = {
        "encoder": toy.spec.fingerprint,
        "texts": 200,
        "bias": -3.0,
        "deviations": 0.5,
        "margin": 2.0,
        "nothing": 0.1,
        "lost": 0.04,
        "rejected": 0.6,
        "error": 0.05,
        "background": encode_background(Background(rows[0], rows[1:3])),
        "created_at": "2026-11-29T22:00:00+00:00",
    }
    return IndexCalibration(**values | changes)


def test_calibration_of_index_is_used_for_its_encoder():
    encoder = ToyEncoder()
    applied = apply_calibration(stored_calibration(encoder), encoder)
    assert (applied.texts, applied.nothing) == (ScoreMap(-3.0, 0.5, 2.0), 0.1)
    assert applied.measured
    rows = np.eye(encoder.spec.dim, dtype=np.float32)
    np.testing.assert_array_equal(applied.background.mean, rows[0])
    np.testing.assert_array_equal(applied.background.factors, rows[1:3])
    assert applied.background.residual == 0.0
    stored = stored_calibration(encoder, residual=0.05)
    assert apply_calibration(stored, encoder).background.residual == 0.05


@pytest.mark.parametrize(
    "changes", [{"encoder": "other"}, {"background": "AAAA"}, {"background": "%"}]
)
def test_calibration_of_other_encoder_or_damaged_background_is_not_used(changes):
    encoder = ToyEncoder()
    applied = apply_calibration(stored_calibration(encoder, **changes), encoder)
    assert applied is encoder.calibration
    assert apply_calibration(None, encoder) is encoder.calibration


def test_best_guesses_names_model_and_query():
    assert best_guesses([Term("windmill")], "starter").text == (
        "Best guesses: the built-in model does not know 'windmill' well."
    )
    assert best_guesses([Term("windmill")], "open_clip:ViT-B-32/x").text == (
        "Best guesses: open_clip:ViT-B-32/x does not know 'windmill' well."
    )


@pytest.mark.parametrize("text", ["the", "a photo of the", "Of The", "das Bild"])
def test_best_guesses_of_stop_words_blame_the_query(text):
    assert best_guesses([Term(text)], "starter").text == (
        f"Best guesses: {text!r} does not describe a picture."
    )


def test_best_guesses_quotes_positive_terms_without_weights_and_cuts_long_queries():
    terms = [Term("mill", weight=2.0), Term("sea"), Term("boat", weight=-1.0)]
    assert "know 'mill + sea' well" in best_guesses(terms, "starter").text
    text = best_guesses([Term("a red windmill by the sea " * 9)], "starter").text
    assert len(text) < 130
    assert text.endswith("...' well.")


def test_best_guesses_of_picture_does_not_name_it():
    text = best_guesses([Term(picture=3), Term("snow")], "starter").text
    assert text == "Best guesses: no picture here looks much like that."


def test_best_guesses_below_threshold_says_that_there_is_no_match():
    text = best_guesses([Term("unicorn")], "starter", is_nothing=True).text
    assert text == "No match: no picture here seems to show 'unicorn'."


def test_score_distribution_of_no_scores_has_positive_std():
    assert ScoreDistribution.from_scores(np.empty(0, np.float32)).std > 0


@given(st.floats(0, 1), st.floats(0, 8, width=32), st.floats(-5, 5))
def test_combine_with_text_never_lowers_visual_confidence(visual, evidence, margin):
    combined = combine_with_text(
        np.array([visual]), np.array([evidence], np.float32), np.array([margin])
    )[0]
    assert visual - 1e-9 <= combined <= 1


def test_combine_with_text_words_of_no_evidence_change_nothing():
    visual = np.array([0.01, 0.2, 0.9])
    np.testing.assert_allclose(combine_with_text(visual, np.zeros(3, np.float32)), visual)


@pytest.mark.parametrize(
    ("visual", "margin", "band"),
    [(0.05, 0.5, Band.LIKELY), (0.05, -1.5, Band.POSSIBLE), (0.9, -1.5, Band.LIKELY)],
)
def test_combine_with_text_full_match_is_likely_unless_look_contradicts(visual, margin, band):
    evidence = np.array([5.0], np.float32)
    assert to_band(combine_with_text(np.array([visual]), evidence, np.array([margin]))[0]) is band


def test_to_band_at_thresholds_returns_likely_possible_unlikely():
    assert to_band(LIKELY_THRESHOLD) is Band.LIKELY
    assert to_band(POSSIBLE_THRESHOLD) is Band.POSSIBLE
    assert to_band(POSSIBLE_THRESHOLD - 0.001) is Band.UNLIKELY
