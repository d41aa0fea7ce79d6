"""Contract of `CatalogReader`, for every catalog."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from mmsearch.catalog.reader import open_reader
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters
from mmsearch.core.records import (
    FailedFile,
    FolderRecord,
    IndexedFile,
    ShardCommit,
    SkippedFile,
)
from tests.unit.catalog.samples import (
    IDENTITY,
    built,
    digest_of,
    encoded,
    generation,
    indexed,
    picture,
    seen,
    segment,
    state,
)


class TestEmptyCatalog:
    def test_empty_catalog_returns_no_records(self, catalog):
        with catalog.snapshot() as snapshot:
            assert snapshot.generation == 0
            assert snapshot.identity is None
            assert snapshot.pictures == 0
            assert snapshot.built is None
            assert list(snapshot.unindexed_segments) == []
            assert snapshot.deleted_ids.dtype == np.int64
            assert snapshot.deleted_ids.shape == (0,)
            assert snapshot.records([]) == []
        assert catalog.identity() is None
        assert catalog.roots() == []
        assert catalog.segments() == []
        assert catalog.failures() == []
        assert catalog.last_run() is None
        assert catalog.file_count() == 0
        assert catalog.referenced_files() == set()
        assert catalog.next_free_ids() == (1, 1)
        assert catalog.list_files_under(1, b"") == {}
        assert catalog.find_item_ids([]) == {}


class TestKnownFiles:
    def test_list_files_under_matches_folder_not_path_prefix(self, catalog, root):
        inside = [b"2020/a.jpg", b"2020/x/b.jpg", b"2020/\xff", b"2020"]
        outside = [b"2020-x/a.jpg", b"20200/a.jpg", b"2020.jpg", b"2020!", b"1/2020/a.jpg", b"x"]
        catalog.commit_shard(encoded(catalog, root, dict.fromkeys(inside + outside, "same")))
        assert set(catalog.list_files_under(root.id, b"2020")) == set(inside)
        assert set(catalog.list_files_under(root.id, b"2020/x")) == {b"2020/x/b.jpg"}
        assert set(catalog.list_files_under(root.id, b"")) == set(inside + outside)
        assert catalog.list_files_under(root.id, b"3") == {}

    def test_list_files_under_returns_files_of_given_root_only(self, catalog, root):
        other, _ = catalog.ensure_root(b"/other")
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        assert catalog.list_files_under(other.id, b"") == {}

    def test_damaged_files_are_those_of_damaged_pictures(self, catalog, root):
        item = picture(1, "a")
        damaged = replace(item, picture=replace(item.picture, damage="the last 3% are missing"))
        whole = picture(2, "b")
        files = {b"z.jpg": damaged, b"x/a.jpg": damaged, b"b.jpg": whole}
        shard = ShardCommit(
            root_id=root.id,
            checked_ns=9,
            segment=segment(1, 2),
            pictures=[damaged, whole],
            indexed=[IndexedFile(seen(path, 1, 2), item.digest) for path, item in files.items()],
        )
        catalog.commit_shard(shard)
        assert catalog.damaged_files() == [
            FailedFile(root.path + b"/" + path, "the last 3% are missing")
            for path in (b"x/a.jpg", b"z.jpg")
        ]

    def test_skipped_files_are_written_replaced_and_removed(self, catalog, root):
        first, second = SkippedFile(b"a.mov", "video", 5, 6), SkippedFile(b"x/b", "empty", 0, 7)
        catalog.save_skipped(root.id, [first, second], [])
        assert catalog.list_skipped_under(root.id, b"") == {b"a.mov": first, b"x/b": second}
        assert catalog.list_skipped_under(root.id, b"", {b"x"}) == {b"a.mov": first}
        assert catalog.list_skip_reasons(root.id, b"x") == [(b"x/b", "empty")]
        changed = SkippedFile(b"x/b", "not a picture", 1, 8)
        catalog.save_skipped(root.id, [changed], [b"a.mov"])
        assert catalog.list_skipped_under(root.id, b"") == {b"x/b": changed}
        assert catalog.skipped_files() == [FailedFile(root.path + b"/x/b", "not a picture")]
        assert catalog.load_skipped_counts(root.id, b"") is None
        catalog.save_skipped_counts(root.id, b"", [("MOV", "video", 1)])
        catalog.save_skipped_counts(root.id, b"x", [])
        assert catalog.load_skipped_counts(root.id, b"") == [("MOV", "video", 1)]
        assert catalog.load_skipped_counts(root.id, b"x") == []
        catalog.save_skipped(root.id, [], [b"unknown"])
        assert catalog.load_skipped_counts(root.id, b"x") is None
        outer, _ = catalog.ensure_root(root.path.rpartition(b"/")[0] or b"/")
        assert catalog.skipped_files() == []
        assert catalog.list_skipped_under(outer.id, b"") == {}

    def test_list_files_under_omits_files_of_skipped_folders(self, catalog, root):
        paths = [b"a.jpg", b"x/b.jpg", b"x/y/c.jpg", b"x-y/d.jpg"]
        catalog.commit_shard(encoded(catalog, root, dict.fromkeys(paths, "same")))
        assert set(catalog.list_files_under(root.id, b"", {b"x"})) == {
            b"a.jpg",
            b"x/y/c.jpg",
            b"x-y/d.jpg",
        }
        assert set(catalog.list_files_under(root.id, b"", {b"", b"x/y"})) == {
            b"x/b.jpg",
            b"x-y/d.jpg",
        }
        assert set(catalog.list_files_in(root.id, b"")) == {b"a.jpg"}
        assert set(catalog.list_files_in(root.id, b"x")) == {b"x/b.jpg"}
        assert set(catalog.list_files_in(root.id, b"x/y")) == {b"x/y/c.jpg"}
        assert catalog.list_files_in(root.id, b"y") == {}
        assert catalog.list_files_in(root.id, b"x") == {
            b"x/b.jpg": catalog.list_files_under(root.id, b"")[b"x/b.jpg"]
        }
        assert catalog.count_files_under(root.id, b"") == 4
        assert catalog.count_files_under(root.id, b"x") == 2


FOLDER_STATES = {b"": FolderRecord(b"top", 1, 0), b"x": FolderRecord(b"below", 2, 1)}


class TestFolderStates:
    def test_folder_states_are_loaded_as_saved_and_replaced_below_folder(self, catalog, root):
        assert catalog.load_folder_states(root.id, b"") == {}
        catalog.save_folder_states(root.id, b"", FOLDER_STATES)
        assert catalog.load_folder_states(root.id, b"") == FOLDER_STATES
        assert catalog.load_folder_states(root.id, b"x") == {b"x": FOLDER_STATES[b"x"]}
        other = {b"x/y": FolderRecord(b"new", 0, 1)}
        catalog.save_folder_states(root.id, b"x", other)
        assert catalog.load_folder_states(root.id, b"") == {b"": FOLDER_STATES[b""]} | other

    @pytest.mark.parametrize(
        "change",
        [
            lambda catalog, root: encoded(catalog, root, {b"b.jpg": "b"}),
            lambda catalog, root: ShardCommit(root.id, 3, removed=[b"a.jpg"]),
            lambda catalog, root: ShardCommit(root.id, 3, failed=[(seen(b"a.jpg"), b"d", "bad")]),
            lambda catalog, root: indexed(root, {b"a.jpg": "a"}, checked_ns=99),
        ],
    )
    def test_folder_states_are_cleared_for_root_when_file_changes(self, catalog, root, change):
        other, _ = catalog.ensure_root(b"/other")
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        for each in (root, other):
            catalog.save_folder_states(each.id, b"", FOLDER_STATES)
        catalog.commit_shard(change(catalog, root))
        assert catalog.load_folder_states(root.id, b"") == {}
        assert catalog.load_folder_states(other.id, b"") == FOLDER_STATES

    def test_folder_states_are_cleared_when_segment_is_dropped(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        catalog.save_folder_states(root.id, b"", FOLDER_STATES)
        catalog.drop_segment(1)
        assert catalog.load_folder_states(root.id, b"") == {}

    def test_folder_states_of_absorbed_root_are_cleared(self, catalog, root):
        inner, _ = catalog.ensure_root(b"/wide/inner")
        catalog.commit_shard(encoded(catalog, inner, {b"a.jpg": "a"}))
        catalog.save_folder_states(inner.id, b"", FOLDER_STATES)
        wide, _ = catalog.ensure_root(b"/wide")
        assert catalog.load_folder_states(inner.id, b"") == {}
        assert catalog.load_folder_states(wide.id, b"") == {}


class TestRecords:
    def test_records_are_returned_in_order_of_ids_with_duplicates(self, catalog, root):
        files = {b"%04d.jpg" % number: f"{number}" for number in range(2500)}
        catalog.commit_shard(encoded(catalog, root, files))
        ids = np.array([*range(2500, 0, -1), 7, 7])
        with catalog.snapshot() as snapshot:
            assert [record.id for record in snapshot.records(ids)] == ids.tolist()
        assert (
            len(catalog.find_item_ids([digest_of(f"{number}") for number in range(3000)])) == 2500
        )

    def test_records_unknown_id_raises_key_error(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        with catalog.snapshot() as snapshot, pytest.raises(KeyError, match="2"):
            snapshot.records([1, 2])

    def test_records_list_paths_of_same_content_across_roots(self, catalog, root):
        other, _ = catalog.ensure_root(b"/a")
        catalog.commit_shard(encoded(catalog, root, {b"z.jpg": "a"}))
        catalog.commit_shard(indexed(other, {b"b/c.jpg": "a"}))
        with catalog.snapshot() as snapshot:
            assert snapshot.records([1])[0].paths == (b"/a/b/c.jpg", b"/photos/z.jpg")


class TestReaderBesideWriter:
    def test_empty_catalog_reads_like_its_writer(self, catalog, open_for_reading):
        reader = open_for_reading()
        assert state(reader) == state(catalog)
        assert reader.identity() is None
        assert reader.last_run() is None

    def test_every_read_returns_what_the_writer_reads(
        self, kind, catalog, root, open_for_reading, tmp_path
    ):
        catalog.set_identity(IDENTITY)
        catalog.commit_shard(encoded(catalog, root, {b"2020/a.jpg": "a", b"2020/sub/b.jpg": "b"}))
        catalog.commit_shard(ShardCommit(root.id, 2, failed=[(seen(b"bad.jpg"), b"", "no JPEG")]))
        catalog.commit_shard(indexed(root, {b"c.jpg": "a"}, removed=[b"2020/sub/b.jpg"]))
        catalog.save_folder_states(root.id, b"", {b"2020": FolderRecord(b"d", 1, 0)})
        catalog.publish(built(1))
        catalog.begin_space("another encoder")
        catalog.commit_embeddings(segment(7, 1), [picture(1, "a")], building=True)
        catalog.finish_run(catalog.begin_run(), "finished", {"added": 2})
        catalog.save_unfinished_roots([root.id])
        reader = open_for_reading()
        assert state(reader) == state(catalog)
        for name, arguments in (
            ("identity", ()),
            ("list_building_segments", ()),
            ("building_key", ()),
            ("find_item_ids", ([digest_of("a"), digest_of("x")],)),
            ("list_live_pictures", (0, 9)),
            ("list_segment_pictures", (1,)),
            ("list_files_in", (root.id, b"2020")),
            ("list_captioned_files", (root.id, b"", b"/t.csv")),
            ("count_files_under", (root.id, b"2020")),
            ("load_folder_states", (root.id, b"")),
            ("last_run", ()),
            ("load_unfinished_roots", ()),
        ):
            assert getattr(reader, name)(*arguments) == getattr(catalog, name)(*arguments), name
        assert reader.segment_item_ids(1).tolist() == [1, 2]
        assert reader.stale_rows() == {}
        assert list(reader.find_problems()) == []
        if kind == "sqlite":
            reader.copy_to(tmp_path / "copy.sqlite")
            with closing(open_reader(tmp_path / "copy.sqlite")) as copy:
                assert state(copy) == state(catalog)

    def test_snapshot_during_commit_keeps_generation(self, catalog, root, open_for_reading):
        catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
        with open_for_reading().snapshot() as snapshot:
            catalog.commit_shard(encoded(catalog, root, {b"b": "b"}))
            assert (snapshot.generation, snapshot.pictures) == (1, 1)
        assert generation(catalog) == 2


class TestFactsOfQueries:
    """Facts that searches read before the words of a query: dates, people and places."""

    @pytest.fixture
    def known(self, catalog, root):
        """Four pictures: of 2020 in Lisbon, of 2022, without a date, and one that is gone."""
        facts = [
            ("a", ("people", "Anna; José García"), "2020-05-17T10:11:12", (38.72, -9.14)),
            ("b", ("people", "anna"), "2022-01-01T00:00:00", (None, None)),
            ("c", ("place", "Lisboa; Portugal"), None, (None, None)),
            ("d", ("people", "Gone Person"), "2024-01-01T00:00:00", (52.5, 13.4)),
        ]
        pictures = []
        for number, (content, text, taken_at, (north, east)) in enumerate(facts, 1):
            item = picture(number, content, text)
            changed = replace(item.picture, taken_at=taken_at, latitude=north, longitude=east)
            pictures.append(replace(item, picture=changed))
        paths = [b"%c.jpg" % content for content in b"abcd"]
        catalog.commit_shard(
            ShardCommit(
                root_id=root.id,
                checked_ns=1,
                segment=segment(1, 4),
                pictures=pictures,
                indexed=[
                    IndexedFile(seen(path, 1, 1), item.digest)
                    for path, item in zip(paths, pictures, strict=True)
                ],
            )
        )
        catalog.commit_shard(ShardCommit(root_id=root.id, checked_ns=2, removed=[b"d.jpg"]))
        return catalog

    def test_an_empty_catalog_knows_nothing(self, catalog):
        with catalog.snapshot() as snapshot:
            assert not snapshot.has_dates()
            assert snapshot.list_people() == []
            assert not snapshot.has_places()
            assert not snapshot.has_located(-90, 90, -180, 180)
            assert snapshot.newest_ids(5).tolist() == []

    def test_people_are_those_of_live_pictures_as_they_are_written(self, known):
        with known.snapshot() as snapshot:
            assert snapshot.has_dates()
            assert snapshot.list_people() == ["Anna", "José García"]

    def test_places_are_found_by_whole_names(self, known):
        with known.snapshot() as snapshot:
            assert snapshot.has_places()
            assert snapshot.has_places(["LISBOA"])
            assert snapshot.has_places(["Berlin", "portugal"])
            assert not snapshot.has_places(["Lis", "Berlin"])

    def test_located_pictures_are_found_in_a_box(self, known):
        with known.snapshot() as snapshot:
            assert snapshot.has_located(38, 39, -10, -9)
            assert not snapshot.has_located(39, 40, -10, -9)
            assert not snapshot.has_located(52, 53, 13, 14)

    def test_newest_come_first_and_those_without_a_date_last(self, known):
        with known.snapshot() as snapshot:
            assert snapshot.newest_ids(9).tolist() == [2, 1, 3]
            assert snapshot.newest_ids(2).tolist() == [2, 1]
            tree = make_filter_tree(Filters(before="2021"))
            assert snapshot.newest_ids(9, tree).tolist() == [1]
