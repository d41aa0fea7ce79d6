"""Stacks of duplicates in a snapshot: their numbers, items, counts and members."""

import numpy as np
import pytest

from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.core.records import DuplicateRecord, ShardCommit
from tests.unit.catalog.samples import IDENTITY, encoded, indexed

NAMES = [b"%d.jpg" % number for number in range(8)]


@pytest.fixture
def stacked(catalog, root):
    """A catalog of eight pictures of which 2 to 6 are a stack: 2 and 4 near, 3, 5 and 6 too."""
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {name: name.decode() for name in NAMES}))
    rows = [(2, 2, 2), (3, 2, 3), (4, 2, 2), (5, 2, 3), (6, 2, 3)]
    with write_transaction(catalog._engine) as connection:
        connection.exec_driver_sql("INSERT INTO duplicates VALUES (?, ?, ?)", rows)
    return catalog


def test_catalog_without_duplicates_has_no_stacks(catalog, root):
    catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a", b"b.jpg": "b"}))
    with catalog.snapshot() as snapshot:
        assert not snapshot.has_stacks
        ids = np.array([2, 1, 2])
        first, second, third = snapshot.stack_ids(ids).tolist()
        assert first == third != second
        assert snapshot.stack_item_ids(ids).tolist() == [1, 2]
        assert snapshot.stacks([1, 2], None, 20) == {}


def test_items_of_a_stack_have_one_number_that_no_other_item_has(stacked):
    with stacked.snapshot() as snapshot:
        assert snapshot.has_stacks
        numbers = snapshot.stack_ids(np.array([1, 6, 2, 8, 3, 6])).tolist()
        assert numbers[1] == numbers[2] == numbers[4] == numbers[5]
        assert len({numbers[0], numbers[1], numbers[3]}) == 3
        assert snapshot.stack_item_ids(np.array([5, 8])).tolist() == [2, 3, 4, 5, 6, 8]


def test_stack_keeps_its_number_without_its_smallest_content(stacked):
    with write_transaction(stacked._engine) as connection:
        connection.exec_driver_sql("DELETE FROM duplicates WHERE content_id = 2")
    with stacked.snapshot() as snapshot:
        numbers = snapshot.stack_ids(np.array([2, 3, 4])).tolist()
        assert numbers[1] == numbers[2] != numbers[0]


def test_stacks_list_near_duplicates_first_and_count_all(stacked):
    with stacked.snapshot() as snapshot:
        stacks = snapshot.stacks([1, 4, 3], None, 3)
    assert stacks.keys() == {3, 4}
    assert [(each.id, each.kind) for each in stacks[4].duplicates] == [
        (2, "near"),
        (3, "burst"),
        (5, "burst"),
    ]
    assert [(each.id, each.kind) for each in stacks[3].duplicates] == [
        (5, "near"),
        (6, "near"),
        (2, "burst"),
    ]
    assert (stacks[3].count, stacks[4].count) == (4, 4)
    assert stacks[4].duplicates[0] == DuplicateRecord(
        2, b"/photos/1.jpg", "near", "2020-05-17T10:11:12"
    )


def test_only_searchable_contents_that_pass_count(stacked, root):
    with stacked.snapshot() as snapshot:
        stacks = snapshot.stacks([4, 5], np.array([1, 2, 5, 8]), 20)
    assert [each.id for each in stacks[4].duplicates] == [2, 5]
    assert (stacks[4].count, stacks[5].count) == (2, 1)
    stacked.commit_shard(ShardCommit(root_id=root.id, checked_ns=3, removed=[NAMES[1], NAMES[4]]))
    with stacked.snapshot() as snapshot:
        stacks = snapshot.stacks([4], None, 20)
        assert [each.id for each in stacks[4].duplicates] == [3, 6]
        assert snapshot.stacks([4], np.array([4]), 20) == {}


def test_duplicate_in_several_places_counts_once(stacked, root):
    stacked.commit_shard(indexed(root, {b"0_first.jpg": NAMES[1].decode()}))
    with stacked.snapshot() as snapshot:
        stack = snapshot.stacks([4], None, 20)[4]
    assert stack.count == 4
    assert stack.duplicates[0].path == b"/photos/0_first.jpg"
