"""Contract of `DuplicateReader` and `DuplicateWriter`, for every catalog."""

from dataclasses import replace

import pytest

from mmsearch.core.duplicates import NO_TIME, DuplicateRow, DuplicateState, UnhashedPicture
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, generation, indexed, seen

STATE = DuplicateState(1, "ab12", 3, 3, 0.55, 3, 2, 0)


@pytest.fixture
def filled(catalog, root):
    """A catalog with the contents A, B and C, of which only A and B have a hash."""
    catalog.set_identity(IDENTITY)
    shard = encoded(catalog, root, {b"a.jpg": "A", b"b.jpg": "B", b"c.jpg": "C"})
    first, second, third = shard.pictures
    first = replace(first, perceptual_hash=-(2**63))
    second = replace(
        second,
        perceptual_hash=7,
        picture=replace(second.picture, taken_at="2020-05-17T00:00:00", camera="Nikon"),
    )
    third = replace(third, picture=replace(third.picture, taken_at=None))
    catalog.commit_shard(replace(shard, pictures=[first, second, third]))
    return catalog


def test_state_of_a_new_catalog_is_none(catalog):
    assert (catalog.duplicates.state(), catalog.duplicates.last_content()) == (None, 0)
    assert len(catalog.duplicates.load_looks()) == 0


def test_looks_have_hashes_times_and_cameras(filled):
    looks = filled.duplicates.load_looks()
    assert looks.content_ids.tolist() == [1, 2, 3]
    assert looks.item_ids.tolist() == [1, 2, 3]
    assert looks.hashes.tolist() == [-(2**63), 7, 0]
    # A date without a time of day says nothing about a burst.
    assert looks.taken_s.tolist() == [1589710272, NO_TIME, NO_TIME]
    assert looks.cameras.tolist() == [-1, 0, -1]


def test_new_pictures_in_bulk_have_hashes_too(catalog, root):
    catalog.set_identity(IDENTITY)
    shard = encoded(catalog, root, {b"a.jpg": "A"})
    catalog.commit_new(replace(shard, pictures=[replace(shard.pictures[0], perceptual_hash=-5)]))
    assert catalog.duplicates.load_looks().hashes.tolist() == [-5]
    assert catalog.list_live_pictures(0, 10)[0].perceptual_hash == -5


def test_saved_groups_are_read(filled, open_for_reading):
    before = generation(filled)
    rows = [DuplicateRow(1, 1, 1), DuplicateRow(3, 1, 3)]
    filled.duplicates.save(rows, STATE, replace=False)
    with_groups = open_for_reading().duplicates
    assert (with_groups.rows(), with_groups.state()) == (rows, STATE)
    assert generation(filled) > before


def test_saved_groups_replace_those_of_their_contents(filled):
    filled.duplicates.save([DuplicateRow(1, 1, 1), DuplicateRow(2, 1, 2)], STATE, replace=False)
    filled.duplicates.save([DuplicateRow(2, 1, 1)], STATE, replace=False)
    assert filled.duplicates.rows() == [DuplicateRow(1, 1, 1), DuplicateRow(2, 1, 1)]
    filled.duplicates.save([DuplicateRow(3, 1, 1)], STATE, replace=True)
    assert filled.duplicates.rows() == [DuplicateRow(3, 1, 1)]


def test_state_is_none_once_the_groups_are_lost(filled):
    filled.duplicates.save([], STATE, replace=True)
    assert filled.duplicates.state() is None
    filled.duplicates.save([], replace(STATE, grouped=0), replace=True)
    assert filled.duplicates.state() == replace(STATE, grouped=0)


def test_state_alone_adds_no_generation(filled):
    before = generation(filled)
    filled.duplicates.save([], replace(STATE, grouped=0), replace=True)
    assert generation(filled) == before


def test_last_content_counts_deleted_ones(filled, root):
    filled.commit_shard(indexed(root, {}, removed=[b"c.jpg"]))
    assert filled.duplicates.last_content() == 3


def unhashed(content, path, size, mtime_ns):
    digest = digest_of({1: "A", 2: "B", 3: "C"}[content])
    return UnhashedPicture(content, content, digest, path, size, mtime_ns)


def test_pictures_without_hash_are_listed_with_their_files(filled, root):
    file = seen(b"c.jpg")
    expected = [unhashed(3, b"/photos/c.jpg", file.size, file.mtime_ns)]
    assert filled.duplicates.list_unhashed(root.id, 0, 9) == expected
    assert filled.duplicates.list_unhashed(root.id, 3, 9) == []
    other, _ = filled.ensure_root(b"/other")
    assert filled.duplicates.list_unhashed(other.id, 0, 9) == []
    assert [filled.duplicates.count_unhashed(source) for source in (None, root.id, other.id)] == [
        *(1, 1, 0)
    ]
    filled.commit_shard(indexed(other, {b"copy.jpg": "C"}))
    (copy,) = filled.duplicates.list_unhashed(other.id, 0, 9)
    assert (copy.content_id, copy.path) == (3, b"/other/copy.jpg")


def test_pictures_without_hash_are_listed_once_and_in_pages(filled, root):
    filled.duplicates.save_hashes({1: None, 2: None}, regroup=False)
    filled.commit_shard(indexed(root, {b"again.jpg": "A"}))
    first = filled.duplicates.list_unhashed(root.id, 0, 2)
    rest = filled.duplicates.list_unhashed(root.id, 2, 2)
    assert [picture.content_id for picture in (*first, *rest)] == [1, 2, 3]
    assert filled.duplicates.count_unhashed(root.id) == 3
    filled.commit_shard(indexed(root, {}, removed=[b"c.jpg"]))
    assert filled.duplicates.count_unhashed() == 2


def test_saved_hashes_are_read_and_forget_the_groups_if_asked(filled, root):
    filled.duplicates.save([DuplicateRow(1, 1, 1), DuplicateRow(2, 1, 1)], STATE, replace=True)
    before = generation(filled)
    filled.duplicates.save_hashes({3: -(2**63)}, regroup=False)
    assert filled.duplicates.load_looks().hashes.tolist() == [-(2**63), 7, -(2**63)]
    assert (filled.duplicates.list_unhashed(root.id, 0, 9), filled.duplicates.state()) == (
        [],
        STATE,
    )
    filled.duplicates.save_hashes({3: 0}, regroup=True)
    assert filled.duplicates.state() is None
    assert len(filled.duplicates.rows()) == 2
    assert generation(filled) == before
