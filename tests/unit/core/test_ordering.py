import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.vectors import (
    as_unit_vectors,
    exact_top_k,
    find_positions,
    merge_rankings,
    row_scores,
    stack,
    top_k,
)

SCORES = st.lists(st.sampled_from([0.1, 0.5, 0.5000001, 0.9]), min_size=0, max_size=30)


@given(SCORES, st.integers(1, 40), st.randoms())
def test_top_k_sorts_by_score_then_id_and_pads_to_k(scores, k, random):
    ids = list(range(len(scores)))
    random.shuffle(ids)
    values = np.array(scores, dtype=np.float32)
    top_ids, top_scores = top_k(np.array(ids, dtype=np.int64), values, k)
    expected = sorted(zip(-values, ids, strict=True))[:k]
    assert top_ids.tolist() == [i for _, i in expected] + [-1] * (k - len(expected))
    assert top_scores.tolist()[: len(expected)] == [-s for s, _ in expected]
    assert (top_scores[len(expected) :] == -np.inf).all()


@given(SCORES, st.integers(1, 10), st.integers(1, 3))
def test_merge_rankings_of_parts_equals_ranking_of_whole(scores, k, num_parts):
    ids = np.arange(len(scores), dtype=np.int64)
    values = np.array(scores, dtype=np.float32)
    part_rankings = [
        stack([top_k(ids[p::num_parts], values[p::num_parts], k)], k) for p in range(num_parts)
    ]
    whole = stack([top_k(ids, values, k)], k)
    merged = merge_rankings(part_rankings, k)
    np.testing.assert_array_equal(merged.ids, whole.ids)
    np.testing.assert_array_equal(merged.scores, whole.scores)


def test_row_scores_do_not_depend_on_position_or_batch():
    rng = np.random.default_rng(0)
    rows = as_unit_vectors(rng.standard_normal((501, 384))).astype(np.float16)
    rows[1::7] = rows[0]
    query = as_unit_vectors(rng.standard_normal((1, 384)))[0]
    batch_scores = row_scores(rows, query)
    single_scores = np.concatenate([row_scores(rows[i : i + 1], query) for i in range(len(rows))])
    np.testing.assert_array_equal(batch_scores, single_scores)
    assert len(set(batch_scores[1::7].tolist()) | {batch_scores[0]}) == 1


def test_exact_top_k_block_size_does_not_change_result():
    rng = np.random.default_rng(1)
    rows = as_unit_vectors(rng.standard_normal((100, 16)))
    ids = np.arange(100, dtype=np.int64)
    small_blocks, large_blocks = (
        exact_top_k(ids, rows, rows[3], 10, block_rows=b) for b in (7, 1000)
    )
    np.testing.assert_array_equal(small_blocks[0], large_blocks[0])
    np.testing.assert_array_equal(small_blocks[1], large_blocks[1])


@given(st.sets(st.integers(0, 50)), st.lists(st.integers(-9, 60)), st.sampled_from([1, 1000]))
def test_find_positions_of_any_targets_returns_positions_of_members(members, targets, spacing):
    ids = np.array(sorted(members), dtype=np.int64) * spacing
    positions = find_positions(ids, np.array(targets, dtype=np.int64) * spacing)
    assert ids[positions].tolist() == sorted(spacing * number for number in members & set(targets))
