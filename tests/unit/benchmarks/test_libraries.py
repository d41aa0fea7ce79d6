"""Libraries of the benchmark of percentages: halves, relevance and first hits."""

import sys
from pathlib import Path

import numpy as np
import pytest

from mmsearch.core.types import Background, ScoreMap

ROOT = Path(__file__).resolve().parents[3]
EYE = np.eye(6, dtype=np.float32)


@pytest.fixture(scope="module")
def libraries():
    sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
    try:
        from benchmarks.quality import libraries
    finally:
        del sys.path[:2]
    return libraries


def trial(libraries, **changes):
    values = {
        "name": "toy",
        "pictures": EYE[:3],
        "texts": ["a", "b", "c"],
        "queries": EYE[[0, 2, 2]],
        "relevant": np.eye(3, dtype=bool),
        "absent_texts": [],
        "absent": np.empty((0, 6), np.float32),
    }
    return libraries.EncodedTrial(**values | changes)


def test_halve_pictures_of_one_word_stay_together(libraries):
    words = [f"word {number % 7}" for number in range(40)]
    for first, second in libraries.halve(words, rounds=3):
        assert sorted([*first, *second]) == list(range(40))
        assert not {words[row] for row in first} & {words[row] for row in second}
    assert len({tuple(first) for first, _ in libraries.halve(words, rounds=3)}) > 1


def test_select_keeps_queries_that_its_pictures_answer(libraries):
    part = libraries.select(trial(libraries), np.array([0, 2]))
    assert (part.texts, part.pictures.shape) == (["a", "c"], (2, 6))
    np.testing.assert_array_equal(part.relevant, np.eye(2, dtype=bool))


def test_accept_same_words_picture_of_a_kind_answers_the_more_general_query(libraries):
    texts = ["A Sumatran tiger.", "A tiger.", "Two zebras."]
    paths = [Path(text) for text in texts]
    found = libraries.accept_same_words(
        libraries.Trial("stamps", paths, texts, np.eye(3, dtype=bool))
    )
    expected = np.eye(3, dtype=bool)
    expected[1, 0] = True
    np.testing.assert_array_equal(found.relevant, expected)


def test_retrieve_searches_with_and_without_relevant_pictures(libraries):
    background = Background(np.zeros(6, np.float32), 0.5 * EYE)
    distractors = libraries.Distractors(EYE[3:], ["a", "b", "c"])
    library = libraries.Library(trial(libraries), distractors, background)
    hits = libraries.retrieve(library, libraries.SIZES[0])
    # The second query is the picture of the third, so its first hit is wrong.
    assert hits.relevant.tolist() == [True, False, True, False, False, False]
    assert hits.present.tolist() == [True] * 3 + [False] * 3
    np.testing.assert_allclose(hits.above_mean, [1, 1, 1, 0, 1, 0])
    np.testing.assert_allclose(hits.std, 0.5)
    assert hits.weights.tolist() == pytest.approx([0.8 / 3] * 3 + [0.2 / 3] * 3)
    confidences = hits.confidences(ScoreMap(0.0, 1.0, 0.0), 0.0)
    assert confidences[0] == pytest.approx(1 / (1 + np.exp(-2)))
    assert (hits.confidences(ScoreMap(0.0, 1.0, 0.0), 0.5) <= confidences).all()


def test_distractors_that_may_show_what_a_query_describes_are_named(libraries):
    distractors = libraries.Distractors(EYE, ["red barns", "dog", "cat", "barn", "owl", "man"])
    shown = distractors.may_show(["a barn in the snow", "dogs"], 6).sum(axis=1)
    assert shown.tolist() == [2, 1]
    assert distractors.take(4).shape == (4, 6)
