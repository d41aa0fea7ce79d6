"""Liked and disliked hits on the index of photographs, through the public API."""

import csv
import shutil

import numpy as np
import pytest

import mmsearch
from mmsearch.core.errors import InvalidQueryError, UnknownNameError
from tests.sound_files import write_tone

ALL = 212


@pytest.fixture(scope="module")
def word_of(photos):
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        return {row["path"].split("/")[-1]: row["word"] for row in csv.DictReader(stream)}


def unseen_precision(hits, word, word_of, clicked):
    """Return the average precision of a word among the hits that were not clicked."""
    relevant = np.array([word_of[hit.path.name] == word for hit in hits if hit.id not in clicked])
    precisions = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    return precisions[relevant].mean()


def click(hits, word, word_of):
    """Return the first right and the first wrong hit among the first 20."""
    right = [hit for hit in hits[:20] if word_of[hit.path.name] == word]
    wrong = [hit for hit in hits[:20] if word_of[hit.path.name] != word]
    return right[0], wrong[0]


@pytest.mark.parametrize("word", ["multimeter", "windmill", "scissors", "measuring tape"])
def test_two_clicks_find_pictures_that_the_words_missed(index, word_of, word):
    first = index.search(word, ALL, mode="vector", fold=False)
    right, wrong = click(first, word, word_of)
    second = index.search(word, ALL, like=[right], unlike=[wrong], mode="vector", fold=False)
    clicked = {right.id, wrong.id}
    before = unseen_precision(first, word, word_of, clicked)
    assert unseen_precision(second, word, word_of, clicked) > before + 0.05


def test_disliked_hit_is_left_out_and_liked_one_stays(index):
    first = index.search("a windmill", 20)
    right, wrong = first[0], first[7]
    hits = index.search("a windmill", ALL, like=right, unlike=wrong.id, fold=False)
    assert len(hits) == ALL - 1
    ids = [hit.id for hit in hits]
    assert wrong.id not in ids
    assert ids[0] == right.id
    assert [hit.rank for hit in hits] == list(range(1, ALL))


def test_counts_leave_out_disliked_pictures(index):
    wrong = index.search("a windmill", 3)
    query = mmsearch.parse_query("a windmill", unlike=wrong)
    result = index.query(mmsearch.SearchRequest(query, fold=False))
    assert (result.passed, result.pictures) == (ALL - 3, ALL)
    filters = {"orientation": "landscape"}
    passing = index.search("a windmill", ALL, filters=filters, fold=False)
    query = mmsearch.parse_query("a windmill", unlike=passing[:2], filters=filters)
    result = index.query(mmsearch.SearchRequest(query, ALL, fold=False))
    assert result.passed == len(result.hits) == len(passing) - 2


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_first_hits_are_a_prefix_of_more(index, mode):
    first = index.search("a fish", 30)
    clicks = {"like": [first[1], first[4]], "unlike": [first[0], first[9]], "mode": mode}
    more = [hit.id for hit in index.search("a fish", 100, **clicks)]
    for k in (1, 5, 15):
        assert [hit.id for hit in index.search("a fish", k, **clicks)] == more[:k]


def test_order_and_number_of_the_same_clicks_change_nothing(index):
    first = index.search("a fish", 10)
    expected = index.search("a fish", 50, like=first[:3], unlike=first[5:7])
    answer = index.search(
        "a fish", 50, like=[*reversed(first[:3]), first[0]], unlike=[first[6], first[5], first[6]]
    )
    assert [(h.id, h.score, h.confidence) for h in answer] == [
        (h.id, h.score, h.confidence) for h in expected
    ]


def test_no_clicks_change_nothing(index):
    assert index.search("a fish", 50, like=[], unlike=None) == index.search("a fish", 50)


def test_liked_pictures_alone_are_the_query(index):
    first = index.search("a windmill", 5)
    alone = index.search("", 50, like=first[0])
    assert [h.id for h in alone] == [h.id for h in index.similar(first[0], 50)]
    without = index.search("", 50, like=first[0], unlike=alone[1])
    assert without[0].id == first[0].id
    assert alone[1].id not in [hit.id for hit in without]


def test_batch_of_different_clicks_equals_single_searches(index):
    first = index.search("a fish", 4)
    queries = [
        mmsearch.parse_query("a fish", like=first[0], unlike=first[1]),
        mmsearch.parse_query("a fish", unlike=first[2]),
        mmsearch.parse_query("a fish"),
    ]
    results = index.search_many(queries, 20)
    for query, result in zip(queries, results, strict=True):
        assert [h.id for h in result.hits] == [h.id for h in index.search(query, 20)]


def test_bands_stay_honest(index, word_of):
    """Most hits that are called likely after two clicks are right."""
    likely = []
    for word in ("windmill", "fish", "scissors", "hammer", "dam", "solar"):
        first = index.search(word, ALL, mode="vector", fold=False)
        right = next(hit for hit in first if word_of[hit.path.name] == word)
        wrong = next(hit for hit in first if word_of[hit.path.name] != word)
        hits = index.search(word, ALL, like=right, unlike=wrong, mode="vector")
        likely += [word_of[h.path.name] == word for h in hits if h.band == "likely"]
        assert sum(hit.band != "unlikely" for hit in hits) < ALL / 4
    assert np.mean(likely or [1.0]) >= 0.75


def test_texts_rank_beside_clicks(tmp_path, photos, word_of):
    """In hybrid mode, a liked picture moves the look, and words in texts still find pictures."""
    rows = [name for name, word in sorted(word_of.items()) if word in ("windmill", "hammer")]
    for name in rows:
        shutil.copy(photos / "photos" / name, tmp_path / name)
    hammer = next(name for name in rows if word_of[name] == "hammer")
    (tmp_path / f"{hammer}.txt").write_text("the old windmill of Gandria", encoding="utf-8")
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(tmp_path)
        first = index.search("the windmill of Gandria", 20)
        assert first[0].path.name == hammer
        right = next(hit for hit in first if word_of[hit.path.name] == "windmill")
        liked = index.search("the windmill of Gandria", 20, like=right)
        assert hammer in [hit.path.name for hit in liked[:3]]
        assert next(h for h in liked if h.id == right.id).rank <= right.rank
        crossed_out = index.search("the windmill of Gandria", 50, unlike=first[0], fold=False)
        assert len(crossed_out) == len(rows) - 1
        words_only = index.search("windmill of Gandria", 20, unlike=first[0], mode="text")
        assert not words_only


def test_unusable_ids_are_refused(index):
    first = index.search("a fish", 2)
    with pytest.raises(UnknownNameError, match=r"has no picture 99999\. Use the id of a hit\."):
        index.search("a fish", like=99999)
    with pytest.raises(UnknownNameError, match="has no picture 99999"):
        index.search("a fish", unlike=99999)
    with pytest.raises(InvalidQueryError, match=r"both liked and disliked\. Leave one"):
        index.search("a fish", like=first[0], unlike=first)
    with pytest.raises(InvalidQueryError, match=r"give one that is right: like=\[ID\]"):
        index.search("", unlike=first[0])


def test_items_without_pixels_and_deleted_pictures(tmp_path, photos, word_of):
    pytest.importorskip("av")
    names = sorted(word_of)[:4]
    for name in names:
        shutil.copy(photos / "photos" / name, tmp_path / name)
    write_tone(tmp_path / "ocean.wav", 2)
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(tmp_path)
        sound = index.search("ocean", mode="text")[0]
        for clicks in ({"like": sound}, {"unlike": sound}):
            with pytest.raises(InvalidQueryError, match=f"Item {sound.id} has no pixels"):
                index.search("a fish", **clicks)
        gone = next(hit for hit in index.search("a fish", 4) if hit.path.name == names[0])
        (tmp_path / names[0]).unlink()
        index.add_folder(tmp_path)
        for clicks in ({"like": gone}, {"unlike": gone}):
            with pytest.raises(UnknownNameError, match=f"no picture {gone.id}"):
                index.search("a fish", **clicks)
