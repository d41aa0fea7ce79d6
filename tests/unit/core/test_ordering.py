import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.ordering import best, exhaustive, merge, positions_of, row_scores, stack
from mmsearch.core.vectors import as_unit_vectors

SCORES = st.lists(st.sampled_from([0.1, 0.5, 0.5000001, 0.9]), min_size=0, max_size=30)


@given(SCORES, st.integers(1, 40), st.randoms())
def test_the_best_are_sorted_by_score_then_id_and_padded(scores, k, random):
    ids = list(range(len(scores)))
    random.shuffle(ids)
    values = np.array(scores, dtype=np.float32)
    found, found_scores = best(np.array(ids, dtype=np.int64), values, k)
    expected = sorted(zip(-values, ids, strict=True))[:k]
    assert found.tolist() == [i for _, i in expected] + [-1] * (k - len(expected))
    assert found_scores.tolist()[: len(expected)] == [-s for s, _ in expected]
    assert (found_scores[len(expected) :] == -np.inf).all()


@given(SCORES, st.integers(1, 10), st.integers(1, 3))
def test_merging_parts_gives_what_the_whole_gives(scores, k, parts):
    ids = np.arange(len(scores), dtype=np.int64)
    values = np.array(scores, dtype=np.float32)
    pieces = [stack([best(ids[p::parts], values[p::parts], k)], k) for p in range(parts)]
    whole = stack([best(ids, values, k)], k)
    merged = merge(pieces, k)
    np.testing.assert_array_equal(merged.ids, whole.ids)
    np.testing.assert_array_equal(merged.scores, whole.scores)


def test_a_row_scores_the_same_wherever_it_stands():
    rng = np.random.default_rng(0)
    rows = as_unit_vectors(rng.standard_normal((501, 384))).astype(np.float16)
    rows[1::7] = rows[0]
    query = as_unit_vectors(rng.standard_normal((1, 384)))[0]
    together = row_scores(rows, query)
    alone = np.concatenate([row_scores(rows[i : i + 1], query) for i in range(len(rows))])
    np.testing.assert_array_equal(together, alone)
    assert len(set(together[1::7].tolist()) | {together[0]}) == 1


def test_blocks_do_not_change_an_exhaustive_search():
    rng = np.random.default_rng(1)
    rows = as_unit_vectors(rng.standard_normal((100, 16)))
    ids = np.arange(100, dtype=np.int64)
    small, large = (exhaustive(ids, rows, rows[3], 10, block=b) for b in (7, 1000))
    np.testing.assert_array_equal(small[0], large[0])
    np.testing.assert_array_equal(small[1], large[1])


@given(st.sets(st.integers(0, 50)), st.lists(st.integers(-9, 60)), st.sampled_from([1, 1000]))
def test_positions_are_those_of_members(have, wanted, apart):
    ids = np.array(sorted(have), dtype=np.int64) * apart
    places = positions_of(ids, np.array(wanted, dtype=np.int64) * apart)
    assert ids[places].tolist() == sorted(apart * number for number in have & set(wanted))
