"""Contract of `CatalogMaintenance`, for every catalog."""

from contextlib import closing

import pytest

from mmsearch.core.errors import StateError
from mmsearch.core.records import CaptionTableTexts, IndexedFile, ShardCommit
from mmsearch.core.types import Text, TextSource
from tests.contract.conftest import SERVER, WRITERS
from tests.unit.catalog.samples import IDENTITY, built, digest_of, encoded, picture, seen, segment

TABLE = b"/photos/captions.csv"
CAPTION = Text("caption", "a cat on a mat", None, TextSource.TABLE)


@pytest.fixture(autouse=True)
def filled(catalog, root):
    """Two pictures in a segment, the first with a caption from a table, and a built index."""
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {b"a.jpg": "a", b"b.jpg": "b"}))
    table = CaptionTableTexts(TABLE, [CAPTION])
    captioned = IndexedFile(seen(b"a.jpg"), digest_of("a"), table=table)
    catalog.commit_shard(ShardCommit(root.id, 2, indexed=[captioned]))
    catalog.publish(built(1))


def live_ids(catalog):
    return [stored.id for stored in catalog.list_live_pictures(0, 9)]


def test_vacuum_and_rebuild_derived_keep_all_rows(catalog, root):
    before = catalog.list_files_under(root.id, b""), catalog.list_live_pictures(0, 9)
    catalog.rebuild_derived()
    catalog.vacuum()
    assert (catalog.list_files_under(root.id, b""), catalog.list_live_pictures(0, 9)) == before
    assert list(catalog.find_problems()) == []


def test_drop_segment_marks_files_failed_and_drops_built_index(catalog):
    catalog.drop_segment(1)
    assert live_ids(catalog) == []
    assert [(file.path, file.reason) for file in catalog.failures()] == [
        (b"/photos/a.jpg", "its vector was lost"),
        (b"/photos/b.jpg", "its vector was lost"),
    ]
    with catalog.snapshot() as snapshot:
        assert snapshot.built is None
    assert list(catalog.find_problems()) == []


def test_drop_built_index_adds_generation_without_one(catalog):
    with catalog.snapshot() as snapshot:
        before = snapshot.generation
    catalog.drop_built_index()
    with catalog.snapshot() as snapshot:
        assert (snapshot.generation, snapshot.built) == (before + 1, None)


def test_restore_segment_supersedes_pictures_of_equal_content(catalog):
    catalog.restore_segment(segment(5, 1), [picture(9, "a")])
    assert live_ids(catalog) == [2, 9]
    assert catalog.find_item_ids([digest_of("a")]) == {digest_of("a"): 9}
    assert {number: ids.tolist() for number, ids in catalog.stale_rows().items()} == {1: [1]}


def test_save_unfinished_roots_replaces_earlier_ones(catalog):
    for ids in ([1, 2], [2], []):
        catalog.save_unfinished_roots(ids)
        assert catalog.load_unfinished_roots() == ids


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_recover_rows_copies_roots_files_texts_and_runs(catalog, root, tmp_path):
    run = catalog.begin_run()
    catalog.finish_run(run, "finished", {"added": 2})
    catalog.copy_to(tmp_path / "old.sqlite")
    new_path = tmp_path / "new.sqlite"
    with closing(WRITERS["sqlite"](new_path, create=True)) as new:
        new.set_identity(IDENTITY)
        new.restore_segment(segment(1, 2), [picture(1, "a"), picture(2, "b")])
        result = new.recover_rows(
            tmp_path / "old.sqlite", {b"/photos": {}, b"/more": {"hidden": True, "nonsense": 1}}
        )
        assert (result.files, result.texts, result.lost_files) == (2, 1, 0)
        assert result.unreadable_tables == ()
        assert [known.path for known in new.roots()] == [b"/photos", b"/more"]
        assert [known.choices for known in new.sources()] == [{}, {"hidden": True}]
        assert new.list_files_under(root.id, b"") == catalog.list_files_under(root.id, b"")
        assert new.list_captioned_files(root.id, b"", TABLE) == {b"a.jpg"}
        assert new.last_run().counts == {"added": 2}
        assert list(new.find_problems()) == []


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
def test_recover_rows_and_reattach_texts_keep_captions(catalog, tmp_path):
    catalog.copy_to(tmp_path / "old.sqlite")
    with closing(WRITERS["sqlite"](tmp_path / "new.sqlite", create=True)) as new:
        new.set_identity(IDENTITY)
        new.restore_segment(segment(1, 2), [picture(1, "a"), picture(2, "b")])
        new.recover_rows(tmp_path / "old.sqlite", {})
        new.reattach_texts()
        with new.snapshot() as snapshot:
            assert snapshot.records([1])[0].picture.texts == (CAPTION,)


@pytest.mark.parametrize("kind", [SERVER], indirect=True)
def test_catalog_on_a_server_has_no_file_to_copy_or_recover(catalog, tmp_path):
    with pytest.raises(StateError, match="pg_dump"):
        catalog.copy_to(tmp_path / "copy.sqlite")
    with pytest.raises(StateError, match="pg_dump"):
        catalog.recover_rows(tmp_path / "old.sqlite", {})
