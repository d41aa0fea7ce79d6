"""Contract of `CatalogWriter`, for every catalog."""

import dataclasses

import pytest

from mmsearch.core.errors import EncoderMismatchError, SourceError, UnknownNameError
from mmsearch.core.records import (
    CaptionTableTexts,
    FailedFile,
    FileRecord,
    FileRef,
    IndexedFile,
    PictureRecord,
    ShardCommit,
)
from mmsearch.core.types import FusionSpec, Text, TextSource, select_encoded_texts, texts_digest
from tests.contract.conftest import SERVER
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


class TestIdentity:
    def test_identity_is_returned_as_set(self, catalog):
        catalog.set_identity(IDENTITY)
        assert catalog.identity() == IDENTITY
        assert catalog.identity().encoder.fingerprint == IDENTITY.encoder.fingerprint
        with catalog.snapshot() as snapshot:
            assert snapshot.identity == IDENTITY

    def test_identity_fusion_and_vector_index_can_change_after_commit(self, catalog, root):
        catalog.set_identity(IDENTITY)
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        other = dataclasses.replace(
            IDENTITY, fusion=FusionSpec("concat"), vector_index="faiss_flat"
        )
        catalog.set_identity(other)
        assert catalog.identity() == other

    def test_identity_other_encoder_after_commit_raises_encoder_mismatch(self, catalog, root):
        catalog.set_identity(IDENTITY)
        encoder = dataclasses.replace(IDENTITY.encoder, weights_sha256="cd34")
        other = dataclasses.replace(IDENTITY, encoder=encoder)
        catalog.set_identity(other)
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        with pytest.raises(EncoderMismatchError):
            catalog.set_identity(IDENTITY)
        assert catalog.identity() == other


class TestRoots:
    def test_ensure_root_new_folder_creates_root_with_folder_name(self, catalog):
        root, rest = catalog.ensure_root(b"/home/ada/photos")
        assert (root.name, root.path, rest) == ("photos", b"/home/ada/photos", b"")
        assert catalog.roots() == [root]
        assert catalog.ensure_root(b"/home/ada/photos/") == (root, b"")

    def test_ensure_root_subfolder_returns_existing_root_and_rest(self, catalog, root):
        assert catalog.ensure_root(b"/photos/2020/may") == (root, b"2020/may")
        assert catalog.ensure_root(b"/photos-2")[0] != root
        assert len(catalog.roots()) == 2

    def test_ensure_root_equal_folder_names_get_unique_root_names(self, catalog):
        paths = [b"/a/photos", b"/b/photos", b"/c/photos", b"/d/caf\xe9", b"/e/two\nlines"]
        names = [catalog.ensure_root(path)[0].name for path in paths]
        assert names == ["photos", "photos-2", "photos-3", "caf\\xe9", "two\\nlines"]

    def test_ensure_root_of_whole_file_system_is_named_root(self, catalog):
        root, _ = catalog.ensure_root(b"/")
        assert (root.name, root.path) == ("root", b"/")
        catalog.commit_shard(encoded(catalog, root, {b"a/b.jpg": "b"}))
        assert catalog.ensure_root(b"/a") == (root, b"a")
        with catalog.snapshot() as snapshot:
            assert snapshot.records([1])[0].paths == (b"/a/b.jpg",)

    def test_ensure_root_parent_folder_absorbs_files_of_inner_roots(self, catalog):
        one, _ = catalog.ensure_root(b"/mnt/one")
        two, _ = catalog.ensure_root(b"/mnt/deep/two")
        other, _ = catalog.ensure_root(b"/mnt-other")
        catalog.commit_shard(encoded(catalog, one, {b"\xff'%.jpg": "a", b"x/b.jpg": "b"}))
        catalog.commit_shard(
            encoded(catalog, two, {b"c.jpg": "c"}, failed=[(seen(b"bad.jpg"), b"?", "broken")])
        )
        catalog.commit_shard(encoded(catalog, other, {b"d.jpg": "d"}))
        with catalog.snapshot() as snapshot:
            before = snapshot.records([1, 2, 3, 4])
            count = catalog.file_count()
        at = generation(catalog)

        wide, rest = catalog.ensure_root(b"/mnt")

        assert rest == b""
        assert [root.path for root in catalog.roots()] == [b"/mnt-other", b"/mnt"]
        assert sorted(catalog.list_files_under(wide.id, b"")) == [
            b"deep/two/bad.jpg",
            b"deep/two/c.jpg",
            b"one/x/b.jpg",
            b"one/\xff'%.jpg",
        ]
        with catalog.snapshot() as snapshot:
            wider = [
                dataclasses.replace(
                    record, root=b"/mnt", key=record.paths[0].removeprefix(b"/mnt/")
                )
                for record in before[:3]
            ]
            assert snapshot.records([1, 2, 3, 4]) == [*wider, before[3]]
            assert snapshot.deleted_ids.tolist() == []
            assert snapshot.generation == at + 1
        assert catalog.file_count() == count
        assert catalog.failures() == [FailedFile(b"/mnt/deep/two/bad.jpg", "broken")]

    def test_move_root_changes_paths_of_its_files(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        moved = catalog.move_root("photos", b"/backup/photos/")
        assert (moved.id, moved.name, moved.path) == (root.id, "photos", b"/backup/photos")
        assert catalog.roots() == [moved]
        with catalog.snapshot() as snapshot:
            assert snapshot.records([1])[0].paths == (b"/backup/photos/a.jpg",)

    def test_move_root_unknown_name_raises_unknown_name_error(self, catalog, root):
        with pytest.raises(UnknownNameError, match="photos"):
            catalog.move_root("pictures", b"/elsewhere")

    def test_move_root_into_other_root_raises_source_error(self, catalog, root):
        other, _ = catalog.ensure_root(b"/other")
        for path in (b"/other", b"/other/below"):
            with pytest.raises(SourceError, match="other"):
                catalog.move_root("photos", path)
        assert catalog.roots() == [root, other]

    def test_move_root_to_parent_of_other_root_merges_newest_files(self, catalog, root):
        inner, _ = catalog.ensure_root(b"/new/sub")
        files = {b"sub/same.jpg": "old", b"sub/newer.jpg": "new", b"top.jpg": "top"}
        catalog.commit_shard(encoded(catalog, root, files, checked_ns=5))
        catalog.commit_shard(encoded(catalog, inner, {b"same.jpg": "now"}, checked_ns=6))
        catalog.commit_shard(encoded(catalog, inner, {b"newer.jpg": "stale"}, checked_ns=4))

        moved = catalog.move_root("photos", b"/new")

        assert catalog.roots() == [moved]
        known = catalog.list_files_under(moved.id, b"")
        assert {path: file.digest for path, file in known.items()} == {
            b"sub/same.jpg": digest_of("now"),
            b"sub/newer.jpg": digest_of("new"),
            b"top.jpg": digest_of("top"),
        }
        with catalog.snapshot() as snapshot:
            dead = {digest_of("old"), digest_of("stale")}
            assert set(snapshot.deleted_ids) == set(catalog.find_item_ids(list(dead)).values())
            assert snapshot.pictures == 3


class TestCommit:
    def test_commit_shard_stores_files_pictures_failures_and_segment(self, catalog, root):
        texts = [("caption", "a red car", "en"), ("keywords", "car;red")]
        item = picture(1, "a", *texts)
        shard = ShardCommit(
            root_id=root.id,
            checked_ns=9,
            segment=segment(1, 1),
            pictures=[item],
            indexed=[
                IndexedFile(seen(b"b.jpg", 10, 20), item.digest),
                IndexedFile(seen(b"a.jpg", 30, 40), item.digest),
            ],
            failed=[(seen(b"bad.jpg", 1, 2), b"digest", "it is cut off")],
        )
        catalog.commit_shard(shard)

        assert catalog.list_files_under(root.id, b"") == {
            b"a.jpg": FileRecord(b"a.jpg", 30, 40, 9, item.digest, 1),
            b"b.jpg": FileRecord(b"b.jpg", 10, 20, 9, item.digest, 1),
            b"bad.jpg": FileRecord(b"bad.jpg", 1, 2, 9, b"digest", None, "it is cut off"),
        }
        with catalog.snapshot() as snapshot:
            assert snapshot.generation == 1
            assert snapshot.pictures == 1
            assert list(snapshot.unindexed_segments) == [segment(1, 1)]
            paths = (b"/photos/a.jpg", b"/photos/b.jpg")
            assert snapshot.records([1]) == [
                PictureRecord(
                    1, paths, item.picture, 40, 30, b"/photos", item.digest, (b"/photos",), b"a.jpg"
                )
            ]
            assert snapshot.records([1])[0].picture.texts == tuple(Text(*text) for text in texts)
        assert catalog.find_item_ids([item.digest, b"other"]) == {item.digest: 1}
        assert catalog.segments() == [segment(1, 1)]
        assert catalog.failures() == [FailedFile(b"/photos/bad.jpg", "it is cut off")]
        assert catalog.file_count() == 2
        assert catalog.next_free_ids() == (2, 2)

    def test_commit_shard_repeated_changes_nothing(self, catalog, root):
        first = encoded(catalog, root, {b"a.jpg": "a", b"b.jpg": "b"})
        catalog.commit_shard(first)
        second = encoded(
            catalog,
            root,
            {b"a.jpg": "c", b"d.jpg": "d"},
            removed=[b"b.jpg"],
            failed=[(seen(b"e.jpg"), b"e", "no picture")],
        )
        catalog.commit_shard(second)
        once, at = state(catalog), generation(catalog)
        catalog.commit_shard(second)
        assert state(catalog) == once
        assert generation(catalog) == at

    def test_commit_shard_changed_file_marks_old_picture_deleted(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "old", b"b.jpg": "other"}))
        old = catalog.find_item_ids([digest_of("old")])[digest_of("old")]
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "new"}))
        with catalog.snapshot() as snapshot:
            assert snapshot.deleted_ids.tolist() == [old]
            assert snapshot.pictures == 2
            (dead,) = snapshot.records([old])
            assert (dead.paths, dead.size, dead.mtime_ns) == ((), 0, 0)
        assert catalog.find_item_ids([digest_of("old")]) == {digest_of("old"): old}

    def test_commit_shard_content_of_deleted_picture_restores_it(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        catalog.commit_shard(indexed(root, {}, removed=[b"a.jpg"]))
        with catalog.snapshot() as snapshot:
            assert (snapshot.pictures, snapshot.deleted_ids.tolist()) == (0, [1])
        catalog.commit_shard(indexed(root, {b"again.jpg": "a"}))
        with catalog.snapshot() as snapshot:
            assert (snapshot.pictures, snapshot.deleted_ids.tolist()) == (1, [])
            assert snapshot.records([1])[0].paths == (b"/photos/again.jpg",)

    def test_commit_shard_moved_file_replaces_old_path(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        catalog.commit_shard(indexed(root, {b"b.jpg": "a"}, removed=[b"a.jpg", b"never.jpg"]))
        assert list(catalog.list_files_under(root.id, b"")) == [b"b.jpg"]

    def test_commit_shard_failed_file_is_recorded_until_indexed_again(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        bad = [(seen(b"a.jpg"), b"torn", "it is cut off")]
        catalog.commit_shard(ShardCommit(root.id, 3, failed=bad))
        assert catalog.file_count() == 0
        known = catalog.list_files_under(root.id, b"")[b"a.jpg"]
        assert (known.content_id, known.error, known.checked_ns) == (None, "it is cut off", 3)
        catalog.commit_shard(indexed(root, {b"a.jpg": "a"}))
        assert catalog.failures() == []
        assert catalog.list_files_under(root.id, b"")[b"a.jpg"].content_id == 1

    def test_commit_shard_text_with_nul_is_kept_or_has_replacement(self, kind, catalog, root):
        item = picture(1, "a", ("caption", "car\0red"))
        files = [IndexedFile(seen(b"a.jpg"), item.digest)]
        shard = ShardCommit(root.id, 1, segment(1, 1), [item], files)
        catalog.commit_shard(shard)
        with catalog.snapshot() as snapshot:
            (text,) = snapshot.records([1])[0].picture.texts
        assert text.text == {"sqlite": "car\0red", "postgresql": "car\ufffdred"}[kind]

    def test_commit_shard_undecodable_text_is_stored_with_replacement(self, catalog, root):
        item = picture(1, "a", ("caption", "caf\udce9"))
        failed = [(seen(b"b"), b"", "caf\udce9 is no picture")]
        catalog.commit_shard(
            ShardCommit(
                root.id, 1, segment(1, 1), [item], [IndexedFile(seen(b"a"), item.digest)], failed
            )
        )
        with catalog.snapshot() as snapshot:
            assert snapshot.records([1])[0].picture.texts == (Text("caption", "caf?"),)
        assert catalog.failures()[0].reason == "caf? is no picture"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"indexed": [IndexedFile(seen(b"x"), digest_of("never encoded"))]},
            {"pictures": [picture(9, "x")]},
            {"segment": segment(2, 2), "pictures": [picture(9, "x")]},
            {"segment": segment(2, 1), "pictures": [picture(1, "x")]},
            {"segment": dataclasses.replace(segment(1, 1), file_ref=FileRef("segments/x", 1, "0"))},
            {"root_id": 77},
        ],
        ids=[
            "no vector",
            "no segment",
            "rows",
            "known id",
            "other segment of that number",
            "no root",
        ],
    )
    def test_commit_shard_inconsistent_raises_error_and_changes_nothing(self, catalog, root, wrong):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        before, at = state(catalog), generation(catalog)
        shard = ShardCommit(root.id, 1, removed=[b"a.jpg"])
        with pytest.raises(ValueError, match=r"."):
            catalog.commit_shard(dataclasses.replace(shard, **wrong))
        assert state(catalog) == before
        assert generation(catalog) == at

    @pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
    @pytest.mark.parametrize(
        "wrong",
        [
            {"segment": segment(2, 1), "pictures": [picture(9, "a")]},
            {"segment": dataclasses.replace(segment(2, 0), file_ref=segment(1, 1).file_ref)},
        ],
        ids=["known content", "file of another segment"],
    )
    def test_commit_shard_of_what_is_known_raises_error_with_one_writer(self, catalog, root, wrong):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        before = state(catalog)
        with pytest.raises(ValueError, match=r"."):
            catalog.commit_shard(ShardCommit(root.id, 1, removed=[b"a.jpg"], **wrong))
        assert state(catalog) == before

    @pytest.mark.parametrize("kind", [SERVER], indirect=True)
    def test_commit_shard_beside_other_writers_leaves_out_what_they_have_committed(
        self, catalog, root
    ):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))
        number, first = catalog.reserve_ids(2, 1), catalog.reserve_ids(2, 1)
        late = ShardCommit(
            root.id,
            5,
            segment=segment(number[1], 2),
            pictures=[picture(number[0], "a"), picture(number[0] + 1, "b")],
            indexed=[IndexedFile(seen(b"a2.jpg"), digest_of("a"))],
        )
        other = ShardCommit(
            root.id, 5, segment=segment(first[1], 1), pictures=[picture(first[0], "c")]
        )
        catalog.commit_shard(other)
        catalog.publish(built(first[1]))
        for _ in range(2):
            catalog.commit_shard(late)
            assert catalog.find_item_ids([digest_of(c) for c in "abc"]) == {
                digest_of("a"): 1,
                digest_of("b"): number[0] + 1,
                digest_of("c"): first[0],
            }
            with catalog.snapshot() as snapshot:
                # The built index cannot cover it.
                (tail,) = snapshot.unindexed_segments
                assert tail.number > first[1]
                assert tail.file_ref == segment(number[1], 2).file_ref
            assert list(catalog.find_problems()) == []

    def test_reserve_ids_gives_each_once(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a", b"b.jpg": "b"}))
        assert catalog.reserve_ids(10, 1) == (3, 2)
        assert catalog.reserve_ids(1, 2) == (13, 3)
        assert catalog.next_free_ids() == (14, 5)


class TestGenerations:
    def test_publish_built_index_leaves_newer_segments_unindexed(self, catalog, root):
        for name in "abc":
            catalog.commit_shard(encoded(catalog, root, {name.encode(): name}))
        assert catalog.publish(built(covers=2)) == 4
        with catalog.snapshot() as snapshot:
            assert snapshot.generation == 4
            assert snapshot.built == built(covers=2)
            assert [part.number for part in snapshot.unindexed_segments] == [3]
            assert snapshot.pictures == 3

    def test_commit_shard_keeps_built_index_in_new_generation(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
        catalog.publish(built(covers=1))
        catalog.commit_shard(encoded(catalog, root, {b"b": "b"}))
        with catalog.snapshot() as snapshot:
            assert snapshot.built == built(covers=1)
            assert list(snapshot.unindexed_segments) == [segment(2, 1)]

    def test_referenced_files_include_only_newest_built_index(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
        catalog.publish(built(covers=1, number=1))
        catalog.publish(built(covers=1, number=2))
        assert catalog.referenced_files() == {"segments/000001.vectors", "ann/000002.faiss"}

    def test_snapshot_is_unchanged_by_later_commits(self, catalog, root):
        catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
        with catalog.snapshot() as snapshot:
            catalog.commit_shard(
                encoded(catalog, root, {b"a": "b"}, failed=[(seen(b"c"), b"", "broken")])
            )
            catalog.publish(built(covers=2))
            catalog.move_root("photos", b"/elsewhere")
            assert snapshot.generation == 1
            assert snapshot.built is None
            assert list(snapshot.unindexed_segments) == [segment(1, 1)]
            assert snapshot.deleted_ids.tolist() == []
            assert snapshot.pictures == 1
            assert snapshot.records([1])[0].paths == (b"/photos/a",)
            with pytest.raises(KeyError):
                snapshot.records([2])
        assert generation(catalog) == 4


class TestRuns:
    def test_run_is_running_until_finished_with_outcome_and_counts(self, catalog):
        first = catalog.begin_run()
        run = catalog.last_run()
        assert (run.finished_at, run.outcome, run.counts) == (None, "running", {})
        catalog.finish_run(first, "done", {"added": 3})
        run = catalog.last_run()
        assert (run.outcome, run.counts) == ("done", {"added": 3})
        assert run.started_at <= run.finished_at
        assert catalog.begin_run() > first
        assert catalog.last_run().outcome == "running"

    def test_run_does_not_create_generation(self, catalog):
        catalog.finish_run(catalog.begin_run(), "done", {})
        assert generation(catalog) == 0


CAPTION = Text("caption", "a cat on a mat", None, TextSource.SIDECAR)
NAME = Text("filename", "cat", None, TextSource.FILENAME)
TABLE = Text("caption", "ein Kater", "de", TextSource.TABLE)
OTHER = Text("caption", "a tomcat", "en", TextSource.TABLE)


def texts_of(catalog, number):
    with catalog.snapshot() as snapshot:
        return snapshot.records([number])[0].picture.texts


def place(catalog, root, path, content, *texts, **more):
    catalog.commit_shard(
        ShardCommit(
            root.id, 3, indexed=[IndexedFile(seen(path), digest_of(content), texts, b"key", **more)]
        )
    )


class TestTexts:
    @pytest.fixture(autouse=True)
    def with_one_picture(self, catalog, root):
        catalog.set_identity(IDENTITY)
        catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a"}))

    def test_texts_of_file_are_added_and_removed_with_it(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", CAPTION, NAME)
        place(catalog, root, b"b.jpg", "a", TABLE)
        assert texts_of(catalog, 1) == (CAPTION, NAME, TABLE)
        assert catalog.list_files_under(root.id, b"")[b"a.jpg"].texts_key == b"key"
        catalog.commit_shard(ShardCommit(root.id, 4, removed=[b"a.jpg"]))
        assert texts_of(catalog, 1) == (TABLE,)

    def test_texts_committed_again_unchanged_change_nothing(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", CAPTION, NAME)
        before = state(catalog), generation(catalog)
        place(catalog, root, b"a.jpg", "a", CAPTION, NAME)
        assert (state(catalog), generation(catalog)) == before

    def test_table_captions_are_kept_until_table_changes(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", NAME, table=CaptionTableTexts(b"/t.csv", [TABLE]))
        place(catalog, root, b"a.jpg", "a", CAPTION)
        assert texts_of(catalog, 1) == (CAPTION, TABLE)
        place(catalog, root, b"a.jpg", "a", CAPTION, table=CaptionTableTexts(b"/t.csv"))
        assert texts_of(catalog, 1) == (CAPTION,)

    def test_table_captions_are_stored_separately_for_each_table(self, catalog, root):
        one, two = (
            CaptionTableTexts(b"/1.csv", [TABLE]),
            CaptionTableTexts(b"/2.csv", [TABLE, OTHER]),
        )
        place(catalog, root, b"a.jpg", "a", NAME, table=two)
        place(catalog, root, b"a.jpg", "a", NAME, table=one)
        assert set(texts_of(catalog, 1)) == {NAME, TABLE, OTHER}
        before = state(catalog), generation(catalog)
        for table in (two, one, None):
            place(catalog, root, b"a.jpg", "a", NAME, table=table)
            assert (state(catalog), generation(catalog)) == before
        place(catalog, root, b"a.jpg", "a", NAME, table=CaptionTableTexts(b"/2.csv"))
        assert texts_of(catalog, 1) == (NAME, TABLE)
        place(catalog, root, b"a.jpg", "a", NAME, table=CaptionTableTexts(b"/1.csv"))
        assert texts_of(catalog, 1) == (NAME,)

    def test_commit_shard_returns_number_of_removed_captions(self, catalog, root):
        def removed(path, table, **more):
            file = IndexedFile(seen(path), digest_of("a"), [NAME], b"key", table, **more)
            return catalog.commit_shard(ShardCommit(root.id, 3, indexed=[file]))

        assert removed(b"a.jpg", CaptionTableTexts(b"/1.csv", [TABLE, OTHER])) == 0
        assert removed(b"a.jpg", CaptionTableTexts(b"/2.csv", [OTHER])) == 0
        assert removed(b"a.jpg", CaptionTableTexts(b"/1.csv")) == 1, (
            "the second table says the other"
        )
        assert removed(b"a.jpg", None) == 0
        assert removed(b"z.jpg", CaptionTableTexts(b"/2.csv"), moved_from=b"a.jpg") == 1
        assert removed(b"z.jpg", CaptionTableTexts(b"/1.csv", [TABLE, OTHER])) == 0
        assert removed(b"z.jpg", CaptionTableTexts(None)) == 2

    def test_list_captioned_files_returns_files_of_table_below_folder(self, catalog, root):
        for path in (b"a.jpg", b"sub/b.jpg", b"subtle/c.jpg"):
            place(catalog, root, path, "a", table=CaptionTableTexts(b"/1.csv", [TABLE]))
        place(catalog, root, b"sub/d.jpg", "a", table=CaptionTableTexts(b"/2.csv", [TABLE]))
        place(catalog, root, b"sub/e.jpg", "a", CAPTION)
        found = catalog.list_captioned_files
        assert found(root.id, b"", b"/1.csv") == {b"a.jpg", b"sub/b.jpg", b"subtle/c.jpg"}
        assert found(root.id, b"sub", b"/1.csv") == {b"sub/b.jpg"}
        assert found(root.id, b"sub", b"/2.csv") == {b"sub/d.jpg"}
        assert found(root.id, b"", b"/3.csv") == found(root.id + 1, b"", b"/1.csv") == frozenset()

    def test_move_root_moves_paths_of_tables_below_it(self, catalog, root):
        names = [b"/photos/in/t.csv", b"/photos2/t.csv", b"/photos", b"/tables/t.csv"]
        for number, name in enumerate(names):
            table = CaptionTableTexts(name, [TABLE])
            place(catalog, root, b"%d.jpg" % number, "a", table=table)
        catalog.move_root("photos", b"/drive")
        names[0] = b"/drive/in/t.csv"
        for number, name in enumerate(names):
            assert catalog.list_captioned_files(root.id, b"", name) == {b"%d.jpg" % number}

    def test_table_captions_follow_moved_file(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", NAME, table=CaptionTableTexts(b"/t.csv", [TABLE]))
        moved = IndexedFile(seen(b"z.jpg"), digest_of("a"), [CAPTION], moved_from=b"a.jpg")
        catalog.commit_shard(ShardCommit(root.id, 3, indexed=[moved], removed=[b"a.jpg"]))
        assert texts_of(catalog, 1) == (CAPTION, TABLE)

    def test_texts_of_changed_file_move_to_picture_of_new_content(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", CAPTION)
        catalog.commit_shard(encoded(catalog, root, {b"b.jpg": "b"}))
        place(catalog, root, b"a.jpg", "b", CAPTION)
        assert texts_of(catalog, 1) == ()
        assert texts_of(catalog, 2) == (CAPTION,)

    def test_texts_of_file_that_fails_are_removed(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", CAPTION)
        failed = [(seen(b"a.jpg"), digest_of("x"), "it is cut off")]
        catalog.commit_shard(ShardCommit(root.id, 3, failed=failed))
        assert texts_of(catalog, 1) == ()

    def test_stale_texts_lists_picture_when_encoded_texts_change(self, catalog, root):
        assert catalog.list_stale(0, 9) == []
        place(catalog, root, b"a.jpg", "a", NAME)
        assert catalog.list_stale(0, 9) == [], "file names have no vectors"
        place(catalog, root, b"a.jpg", "a", CAPTION, NAME)
        (stale_texts,) = catalog.list_stale(0, 9)
        assert (stale_texts.id, stale_texts.digest, stale_texts.segment) == (1, digest_of("a"), 1)
        assert stale_texts.path == b"/photos/a.jpg"
        assert stale_texts.picture.texts == (CAPTION, NAME)
        place(catalog, root, b"a.jpg", "a")
        assert catalog.list_stale(0, 9) == [], "as it was encoded"

    def test_stale_texts_lists_pictures_when_encoded_sources_change(self, catalog, root):
        place(catalog, root, b"a.jpg", "a", NAME)
        catalog.set_identity(dataclasses.replace(IDENTITY, texts=(TextSource.FILENAME,)))
        assert [stale_texts.id for stale_texts in catalog.list_stale(0, 9)] == [1]

    @pytest.mark.parametrize("kind", [SERVER], indirect=True)
    def test_commit_embeddings_beside_other_writers_is_newer_and_stale_if_texts_changed(
        self, catalog, root
    ):
        place(catalog, root, b"a.jpg", "a", CAPTION)
        (stale,) = catalog.list_stale(0, 9)
        _, number = catalog.reserve_ids(0, 1)
        digest = texts_digest(select_encoded_texts(stale.picture.texts, IDENTITY.texts))
        # While its texts are encoded, another writer adds some, and commits a segment.
        place(catalog, root, b"b.jpg", "a", TABLE)
        newer = catalog.reserve_ids(1, 1)
        catalog.commit_shard(
            ShardCommit(root.id, 5, segment=segment(newer[1], 1), pictures=[picture(newer[0], "c")])
        )
        item = dataclasses.replace(picture(1, "a"), texts_digest=digest, keep_texts=True)
        catalog.commit_embeddings(segment(number, 1), [item])
        assert catalog.segments()[-1].number > newer[1]
        assert catalog.segments()[-1].file_ref == segment(number, 1).file_ref
        assert [item.id for item in catalog.list_stale(0, 9)] == [1]
        assert list(catalog.find_problems()) == []

    @pytest.mark.parametrize("texts_stay", [True, False])
    def test_commit_embeddings_keep_id_files_and_texts_of_picture(self, catalog, root, texts_stay):
        place(catalog, root, b"a.jpg", "a", CAPTION)
        place(catalog, root, b"b.jpg", "a", TABLE)
        (stale,) = catalog.list_stale(0, 9)
        digest = texts_digest(select_encoded_texts(stale.picture.texts, IDENTITY.texts))
        item = dataclasses.replace(
            picture(1, "a", ("title", "read again")), texts_digest=digest, keep_texts=texts_stay
        )
        catalog.commit_embeddings(segment(2, 1), [item])
        own = () if texts_stay else (Text("title", "read again"),)
        assert texts_of(catalog, 1) == (CAPTION, TABLE, *own)
        assert catalog.find_item_ids([digest_of("a")]) == {digest_of("a"): 1}
        assert catalog.segment_item_ids(1).tolist() == [1]
        assert {number: ids.tolist() for number, ids in catalog.stale_rows().items()} == {1: [1]}
        with catalog.snapshot() as snapshot:
            assert snapshot.deleted_ids.tolist() == []
            assert snapshot.pictures == 1
            assert snapshot.find_segments([1])[1].number == 2
            assert snapshot.moved_ids(1).tolist() == [1]
            assert snapshot.moved_ids(2).tolist() == []
        # The title in the picture gets a vector too, but the digest does not cover it.
        assert bool(catalog.list_stale(0, 9)) == (not texts_stay)
        assert list(catalog.find_problems()) == []
