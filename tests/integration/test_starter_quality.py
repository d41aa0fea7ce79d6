"""The built-in model finds photographs by their word at least as well as the ConSE baseline.

The ConSE figures for these photographs come from benchmarks/quality/starter.py.
"""

import csv

import numpy as np
import pytest

import mmsearch as library

CONSE_RECALL = {1: 42 / 127, 5: 65 / 127, 10: 74 / 127}


def words(photos):
    """Return the word of each photograph, by file name."""
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"].rsplit("/", 1)[1]: row["word"].lower() for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def answers(photo_index, photos):
    """Words of the ranked photographs, best first, for each query word."""
    word_of = words(photos)
    with library.open_index(home=photo_index) as index:
        return {
            word: [word_of[hit.path.name] for hit in index.search(word, k=len(word_of), fold=False)]
            for word in sorted(set(word_of.values()))
        }


def test_starter_search_for_each_word_ranks_all_photographs(answers):
    assert {len(ranked) for ranked in answers.values()} == {212}


@pytest.mark.parametrize("k", [1, 5, 10])
def test_starter_recall_is_at_least_conse_baseline(answers, k):
    recall = np.mean([word in ranked[:k] for word, ranked in answers.items()])
    assert recall >= CONSE_RECALL[k]


@pytest.mark.parametrize(
    ("query", "word", "share"),
    [("a windmill", "windmill", 0.75), ("a photo of a fish", "fish", 0.5)],
)
def test_starter_query_for_common_subject_fills_first_page(photo_index, photos, query, word, share):
    names = {name for name, its_word in words(photos).items() if its_word == word}
    with library.open_index(home=photo_index) as index:
        hits = index.search(query, k=min(len(names), 10))
    assert hits[0].path.name in names
    assert np.mean([hit.path.name in names for hit in hits]) >= share
