from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.query import Term
from mmsearch.core.types import Background, Calibration, ScoreMap
from mmsearch.core.vectors import as_unit_vectors, row_scores
from mmsearch.search.confidence import is_calibrated, look_confidences
from mmsearch.search.feedback import (
    LIKE_WEIGHT,
    UNLIKE_SHARE,
    click_weights,
    disliked_ids,
    feedback_rows,
    move_query,
)
from mmsearch.search.query_parser import MAX_CLICKS, MAX_TERMS, check_terms
from mmsearch.search.retrieval import Candidates, ScoreDistribution

DIM = 16


def vectors(count, seed=0):
    return as_unit_vectors(np.random.default_rng(seed).normal(0.3, 1, (count, DIM)))


@dataclass
class Library:
    """A scope that is compared with all of its pictures."""

    pictures: np.ndarray = field(default_factory=lambda: vectors(200))
    has_image_vectors: bool = True

    def score_distributions(self, queries):
        return ScoreDistribution.from_score_rows(row_scores(self.pictures, queries[:, None, :]))

    def image_scores(self, queries, ids):
        return row_scores(self.pictures[ids], queries[:, None, :])


def move(library, text, liked=(), disliked=()):
    """Return a text query moved by pictures, and the feedback."""
    terms = [Term("a dog")]
    terms += [Term(picture=row + 1) for row in liked]
    terms += [Term(picture=row + 1, weight=-1.0) for row in disliked]
    rows = [term.picture - 1 for term in terms if term.picture]
    return move_query(library, text, np.concatenate([text, library.pictures[rows]]), terms)


def standardized(library, query):
    scores = library.pictures @ query[0]
    return (scores - scores.mean()) / scores.std()


TEXT = vectors(1, seed=1)
clicks = st.lists(st.integers(0, 199), min_size=1, max_size=6, unique=True)


@given(clicks, st.randoms())
def test_order_of_clicks_changes_nothing(rows, random):
    library = Library()
    shuffled = random.sample(rows, len(rows))
    moved, feedback = move(library, TEXT, rows)
    again, feedback_again = move(library, TEXT, shuffled)
    np.testing.assert_array_equal(moved, again)
    np.testing.assert_array_equal(feedback.weights, feedback_again.weights)


@given(st.integers(0, 199))
def test_liked_picture_rises_and_disliked_one_falls(row):
    library = Library()
    before = standardized(library, TEXT)[row]
    assert standardized(library, move(library, TEXT, [row])[0])[row] > before
    assert standardized(library, move(library, TEXT, [], [row])[0])[row] < before


def test_moved_query_is_a_unit_vector_between_text_and_picture():
    library = Library()
    moved, _ = move(library, TEXT, [3])
    assert np.linalg.norm(moved) == pytest.approx(1.0, abs=1e-6)
    assert (moved @ library.pictures[3]).item() > (TEXT @ library.pictures[3]).item()
    assert (moved @ TEXT[0]).item() > (library.pictures[3] @ TEXT[0]).item()


def test_picture_that_a_query_ranks_high_moves_it_less():
    weights = click_weights(np.array([1.0, 3.0, 5.0]), np.ones(3))
    assert (np.diff(weights) < 0).all()
    far_below = click_weights(np.array([-40.0]), np.ones(1))
    assert far_below == click_weights(np.array([1.0]), np.ones(1))
    assert far_below.item() < LIKE_WEIGHT


@given(st.floats(0, 8), st.integers(1, 9))
def test_several_equal_clicks_count_as_much_as_one(deviations, count):
    one = click_weights(np.array([deviations]), np.ones(1))
    several = click_weights(np.full(count, deviations), np.ones(count))
    assert several.sum() == pytest.approx(one.sum())


def test_weight_of_disliked_pictures_is_a_share_of_that_of_liked_ones():
    liked, disliked = click_weights(np.array([2.0, 2.0]), np.array([1.0, -1.0]))
    assert disliked == pytest.approx(-UNLIKE_SHARE * liked)


@given(st.floats(0.1, 10), clicks)
def test_scale_of_similarities_does_not_matter(scale, rows):
    """Vectors of an encoder that lie closer together are moved as much."""
    pictures = vectors(200)
    text, liked = TEXT[0].astype(np.float64), pictures[rows].astype(np.float64)

    def weights(factor):
        scores = factor * (pictures.astype(np.float64) @ text)
        own = (factor * (liked @ text) - scores.mean()) / scores.std()
        return click_weights(own, np.ones(len(rows)))

    np.testing.assert_allclose(weights(scale), weights(1.0), rtol=1e-6)


def test_library_of_one_picture():
    library = Library(vectors(1))
    moved, _ = move(library, TEXT, [0])
    assert np.isfinite(moved).all()


def test_pictures_are_feedback_only_beside_something_that_is_wanted():
    liked, disliked = Term(picture=7), Term(picture=3, weight=-1.0)
    assert feedback_rows([Term("a dog"), liked, disliked]).tolist() == [2, 1]
    assert feedback_rows([liked, disliked]).tolist() == [1]
    assert feedback_rows([Term("a dog", weight=-1.0), liked]).tolist() == []
    assert feedback_rows([Term("a dog"), Term("a cat")]).tolist() == []
    assert disliked_ids([Term("a dog"), liked, disliked, disliked]).tolist() == [3]


def test_pictures_that_cancel_a_query():
    scope, weight = Library(), click_weights(np.array([-1.0]), np.ones(1)).item()
    scope.score_distributions = lambda queries: [
        ScoreDistribution(0.0, 1.0, 0.0),
        ScoreDistribution(0.0, weight, 0.0),
    ]
    terms = [Term("a dog"), Term(picture=1)]
    with pytest.raises(InvalidQueryError, match="cancel its description"):
        move_query(scope, TEXT, np.concatenate([TEXT, -TEXT]), terms)


# --- confidence ---

CALIBRATION = Calibration(
    ScoreMap(-4.0, deviations=1.0, margin=3.0),
    None,
    Background(np.full(DIM, 0.07, np.float32), 0.25 * np.eye(DIM, dtype=np.float32)),
    measured=True,
)


def confidences(library, terms, term_vectors, calibration=CALIBRATION):
    base = term_vectors[:1]
    query, feedback = base, None
    if len(feedback_rows(terms)):
        query, feedback = move_query(library, base, term_vectors, terms)
    visual = row_scores(library.pictures, query[0])
    zeros = np.zeros(len(visual), np.float32)
    background = ScoreDistribution.from_scores(visual)
    ids = np.arange(len(visual))
    candidates = Candidates(ids, visual, zeros, zeros, visual, query, background)
    return look_confidences(library, candidates, terms, term_vectors, calibration, feedback)


@pytest.mark.parametrize("with_background", [True, False])
def test_share_of_likely_pictures_is_about_that_of_the_text_alone(with_background):
    """Standardized, a moved query makes pictures as probable as any text does."""
    library = Library(vectors(2000))
    calibration = CALIBRATION if with_background else Calibration(CALIBRATION.texts)
    alone = confidences(library, [Term("a dog")], TEXT, calibration)
    terms = [Term("a dog"), Term(picture=4), Term(picture=9, weight=-1.0)]
    term_vectors = np.concatenate([TEXT, library.pictures[[3, 8]]])
    moved = confidences(library, terms, term_vectors, calibration)
    assert np.mean(moved) == pytest.approx(np.mean(alone), rel=0.2)
    assert moved[3] > alone[3]
    assert moved[8] < alone[8]


def test_confidence_of_feedback_needs_only_the_map_of_texts():
    terms = [Term("a dog"), Term(picture=4)]
    assert is_calibrated(terms, CALIBRATION)
    assert not is_calibrated([Term(picture=4)], CALIBRATION)


# --- validation ---


def test_picture_both_liked_and_disliked():
    terms = [Term("a dog"), Term(picture=5), Term(picture=5, weight=-1.0)]
    with pytest.raises(InvalidQueryError, match="Picture 5 is both liked and disliked"):
        check_terms(terms)


def test_only_disliked_pictures():
    with pytest.raises(InvalidQueryError, match="only says what") as caught:
        check_terms([Term(picture=5, weight=-1.0)])
    assert caught.value.command_text.endswith("--like ID")


def test_clicks_have_a_limit_of_their_own():
    liked = [Term(picture=number) for number in range(1, MAX_CLICKS + 2)]
    assert check_terms([Term("a dog"), *liked[: MAX_TERMS + 1]])
    with pytest.raises(InvalidQueryError, match="names 101 pictures; 100 are allowed"):
        check_terms([Term("a dog"), *liked])
