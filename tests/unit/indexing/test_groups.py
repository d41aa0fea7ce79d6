from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.duplicates import DuplicateRow
from mmsearch.indexing.groups import merge_groups, update_groups

pairs_of_ids = st.lists(
    st.tuples(st.integers(1, 12), st.integers(1, 12)).filter(lambda pair: pair[0] != pair[1]),
    max_size=30,
)


def groups(near=(), burst=(), old=(), leaders=None, undated=frozenset()):
    """Return (content, stack, near group) of each content that is not alone."""
    rows = update_groups([DuplicateRow(*row) for row in old], near, burst, leaders or {}, undated)
    return [(row.content_id, row.stack_id, row.near_id) for row in rows]


def test_pair_is_one_group_named_by_its_first():
    assert groups(near=[(9, 4)]) == [(4, 4, 4), (9, 4, 4)]


def test_nothing_without_pairs():
    assert groups() == []


def test_chain_of_pairs_is_not_one_group():
    chain = [(number, number + 1) for number in range(1, 20)]
    sizes = [group for _, group, _ in groups(near=chain)]
    assert max(sizes.count(group) for group in sizes) <= 3


def test_all_pairs_of_a_set_are_one_group():
    assert groups(near=list(combinations(range(1, 8), 2))) == [(n, 1, 1) for n in range(1, 8)]


def test_copies_of_which_some_are_unlike_are_one_group():
    # Two crops that only the original and one more picture are like.
    near = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4)]
    assert groups(near=near) == [(n, 1, 1) for n in (1, 2, 3, 4)]


ONE_STACK = [(1, 1, 1), (2, 1, 1), (3, 1, 3), (4, 1, 3)]
TWO_STACKS = [(1, 1, 1), (2, 1, 1), (3, 3, 3), (4, 3, 3)]


def test_burst_joins_groups_of_near_duplicates_by_half_of_their_pairs():
    near = [(1, 2), (3, 4)]
    assert groups(near=near, burst=[(2, 3), (1, 3)]) == ONE_STACK
    assert groups(near=near, burst=[(2, 3)]) == TWO_STACKS


def test_copies_without_dates_do_not_count_in_bursts():
    assert groups(near=[(1, 2), (3, 4)], burst=[(2, 3)], undated={1, 4}) == ONE_STACK


def test_new_frame_joins_the_burst_of_a_group_only_if_like_half_of_it():
    old = [(number, 1, 1) for number in (1, 2, 3, 4)]
    assert groups(burst=[(9, 1), (9, 2)], old=old) == [*old, (9, 1, 9)]
    assert groups(burst=[(9, 1)], old=old) == old


def test_burst_alone_has_no_near_duplicates():
    assert groups(burst=[(5, 6), (6, 7), (5, 7)]) == [(5, 5, 5), (6, 5, 6), (7, 5, 7)]


def test_new_copy_joins_the_old_group():
    assert groups(near=[(2, 9), (1, 9)], old=[(1, 1, 1), (2, 1, 1)]) == [
        (1, 1, 1),
        (2, 1, 1),
        (9, 1, 1),
    ]


def test_new_picture_like_one_of_many_stays_out():
    old = [(number, 1, 1) for number in range(1, 6)]
    assert groups(near=[(3, 9)], old=old) == old


def test_new_picture_between_two_stacks_joins_one_of_them():
    old = [(1, 1, 1), (2, 1, 2), (3, 3, 3), (4, 3, 4)]
    burst = [(9, number) for number in (1, 2, 3, 4)]
    assert groups(burst=burst, old=old) == [*old, (9, 1, 9)]


def test_near_groups_that_become_one_take_their_stacks_along():
    old = [(1, 1, 1), (2, 1, 2), (5, 5, 5), (6, 5, 6)]
    rows = groups(near=[(1, 9), (5, 9)], old=old)
    assert {stack for _, stack, _ in rows} == {1}
    assert [near for _, _, near in rows] == [1, 2, 1, 6, 1]


def test_leader_brings_those_that_it_stands_for():
    rows = groups(near=[(1, 3)], leaders={4: 3, 5: 3})
    assert rows == [(number, 1, 1) for number in (1, 3, 4, 5)]
    assert groups(leaders={4: 3}) == [(3, 3, 3), (4, 3, 3)]


def test_names_of_groups_survive_the_loss_of_their_first_member():
    assert groups(near=[(3, 9), (2, 9)], old=[(2, 1, 1), (3, 1, 1)]) == [
        (2, 1, 1),
        (3, 1, 1),
        (9, 1, 1),
    ]


@given(pairs_of_ids, pairs_of_ids)
def test_groups_are_consistent(near, burst):
    rows = groups(near=near, burst=burst)
    stack_of_near = {}
    for content, stack, near_id in rows:
        assert stack <= near_id <= content
        assert stack_of_near.setdefault(near_id, stack) == stack
    stacks = [stack for _, stack, _ in rows]
    assert all(stacks.count(stack) > 1 for stack in stacks)
    linked = {frozenset(pair) for pair in (*near, *burst)}
    for content, stack, _ in rows:
        others = {other for other, other_stack, _ in rows if other_stack == stack} - {content}
        assert any(frozenset((content, other)) in linked for other in others)


@given(pairs_of_ids)
def test_same_pairs_again_change_nothing(near):
    rows = groups(near=near)
    assert groups(old=rows) == rows


@pytest.mark.parametrize("weight", [1, 5])
def test_weight_of_a_leader_counts_as_many_pictures(weight):
    merged = merge_groups([(1, 2), (2, 3)], {}, {1: weight})
    assert merged == {1: 1, 2: 1, 3: 1 if weight == 1 else 3}
