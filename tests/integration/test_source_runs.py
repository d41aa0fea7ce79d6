"""Pictures of archives and tables in an index: found, updated, removed, encoded again."""

import csv
import io
import os
import tarfile
import zipfile
from hashlib import sha256

import pytest
from PIL import Image

import mmsearch
from mmsearch.core.errors import GoneError, SourceError, UnknownNameError, UsageError
from mmsearch.core.query import Mode
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec
from mmsearch.factories import catalogs, indexing
from mmsearch.maintenance import sources
from mmsearch.maintenance.check import check
from mmsearch.maintenance.sources import add_source, register_source, remove_source
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_fused_search import run
from tests.integration.test_indexer_law import write
from tests.toy_index import ToyEncoder, make_toys, replaced, toy_engine, toy_indexer

TOYS = {b"%d.toy" % number: b"toy %d" % number for number in range(8)}


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "home" / "index")


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name.decode())
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def add(layout, path, encoder=None, **options):
    values = {"kind": None, "name": None, "choices": {}, "retry_failed": False} | options
    settings = Settings(home=layout.folder.parent, model="toy")
    toys = make_toys(encoder)
    toys[sources, "make_modalities"] = toys[indexing, "make_modalities"]
    with replaced(toys):
        return add_source(
            layout,
            settings,
            lambda message: None,
            str(path).encode(),
            wait_s=0,
            progress=lambda state: None,
            **values,
        )


def counts(report):
    return {name: count for name, count in report.counts().items() if count}


def items(layout):
    """Return the id of the picture of each key, by name of the source."""
    with catalogs.open_read(layout) as catalog:
        return {
            source.name: {
                key: image_id
                for part in catalog.list_part_keys(source.id)
                for key, image_id in catalog.find_assets(
                    source.id, list(catalog.list_assets(source.id, part))
                ).items()
            }
            for source in catalog.sources()
        }


def assert_sound(layout):
    with catalogs.open_read(layout) as catalog:
        assert list(catalog.find_problems()) == []
    settings = Settings(home=layout.folder.parent)
    report = check(layout, settings, lambda message: None, sources=True, content=False)
    assert report.verdict == "sound", report.findings


def test_archives_and_folder_with_same_pictures_have_one_picture_each(layout, tmp_path):
    encoder = ToyEncoder()
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, content in TOYS.items():
        write(photos, name, content, 1)
    assert counts(add(layout, write_tar(tmp_path / "a.tar", TOYS), encoder)) == {"added": 8}
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, content in TOYS.items():
            archive.writestr(name.decode(), content)
    assert counts(add(layout, tmp_path / "b.zip", encoder)) == {"copied": 8}
    assert counts(run(layout, photos, encoder)) == {"copied": 8}
    assert encoder.encoded == 8
    with toy_engine(layout) as engine:
        (hit,) = engine.search_text("toy 3", 1, Mode.VECTOR).hits
    # The file of the folder can be opened, so it comes first.
    assert (hit.path, hit.uri, hit.key) == (photos / "3.toy", "", "3.toy")
    assert_sound(layout)


def test_unchanged_tar_passes_and_changed_one_is_updated(layout, tmp_path):
    encoder = ToyEncoder()
    path = write_tar(tmp_path / "a.tar", TOYS)
    add(layout, path, encoder)
    before = items(layout)["a.tar"]
    assert counts(add(layout, path, encoder)) == {"unchanged": 8}
    changed = {**TOYS, b"3.toy": b"toy changed", b"new.toy": b"toy new"}
    del changed[b"5.toy"]
    write_tar(path, changed)
    assert counts(add(layout, path, encoder)) == {
        "added": 1,
        "changed": 1,
        "unchanged": 6,
        "gone": 1,
    }
    assert encoder.encoded == 10
    after = items(layout)["a.tar"]
    assert {key: after.get(key) for key in before if key not in (b"3.toy", b"5.toy")} == {
        key: image_id for key, image_id in before.items() if key not in (b"3.toy", b"5.toy")
    }
    assert b"5.toy" not in after
    with toy_engine(layout) as engine:
        assert engine.search_text("toy changed", 1, Mode.VECTOR).hits[0].id == after[b"3.toy"]
    assert_sound(layout)


def test_tar_that_is_cut_off_loses_no_picture(layout, tmp_path):
    path = write_tar(tmp_path / "a.tar", TOYS)
    add(layout, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 4])
    report = add(layout, path)
    assert report.failed
    assert report.gone == 0
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.pictures == 8
    path.write_bytes(whole)
    assert counts(add(layout, path)) == {"unchanged": 8}


def test_tars_of_a_pattern_are_parts_and_a_missing_one_is_gone(layout, tmp_path):
    first, second = list(TOYS.items())[:4], list(TOYS.items())[4:]
    write_tar(tmp_path / "0.tar", dict(first))
    write_tar(tmp_path / "1.tar", dict(second))
    assert counts(add(layout, tmp_path / "{0..1}.tar")) == {"added": 8}
    write_tar(tmp_path / "1.tar", dict(second[:2]))
    report = add(layout, tmp_path / "{0..1}.tar")
    assert counts(report) == {"unchanged": 6, "gone": 2}
    assert_sound(layout)


def write_table(path, rows):
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, ["sku", "path", "words", "price"])
        table.writeheader()
        table.writerows(rows)


def test_table_gives_keys_texts_and_metadata_which_a_later_run_updates(layout, tmp_path):
    for name, content in TOYS.items():
        (tmp_path / name.decode()).write_bytes(content)
    rows = [
        {"sku": f"sku-{n}", "path": f"{n}.toy", "words": f"red boat {n}", "price": n * 10}
        for n in range(8)
    ]
    table = tmp_path / "t.csv"
    write_table(table, rows)
    choices = {"id_column": "sku", "text_columns": ("words",)}
    encoder = ToyEncoder()
    assert counts(add(layout, table, encoder, choices=choices)) == {"added": 8}
    with toy_engine(layout) as engine:
        (hit,) = engine.search_text("boat 3", 1, Mode.TEXT).hits
    assert (hit.key, hit.metadata["price"]) == ("sku-3", 30)
    before = items(layout)["t.csv"]
    rows[3] |= {"words": "an old mill", "price": 5}
    write_table(table, rows)
    # The choices are those of the first run.
    add(layout, table, encoder)
    assert encoder.encoded == 8
    with toy_engine(layout) as engine:
        (hit,) = engine.search_text("old mill", 1, Mode.TEXT).hits
        assert engine.search_text("boat", 20, Mode.TEXT).hits[0].id != hit.id
    assert (hit.key, hit.metadata["price"], hit.id) == ("sku-3", 5, before[b"sku-3"])
    assert items(layout)["t.csv"] == before
    assert_sound(layout)


def test_first_row_of_a_key_counts_over_the_tables_of_a_source(layout, tmp_path):
    for name, content in TOYS.items():
        (tmp_path / name.decode()).write_bytes(content)

    def write_tables(*numbers):
        for table, chosen in enumerate(numbers):
            rows = [{"sku": sku, "path": f"{n}.toy", "words": "x", "price": 1} for sku, n in chosen]
            write_table(tmp_path / f"{table}.csv", rows)

    def run():
        report = add(layout, tmp_path / "{0..1}.csv", encoder, choices={"id_column": "sku"})
        return [(os.fsdecode(failed.path), failed.reason) for failed in report.failed]

    def contents():
        digests = {sha256(content).digest(): n for n, content in enumerate(TOYS.values())}
        with catalogs.open_read(layout) as catalog:
            (source,) = catalog.sources()
            parts = [catalog.list_assets(source.id, part) for part in (b"0.csv", b"1.csv")]
        return [
            {key.decode(): digests[asset.digest] for key, asset in part.items() if not asset.error}
            for part in parts
        ]

    encoder = ToyEncoder()
    write_tables([("a", 0), ("b", 1)], [("c", 2), ("b", 3)])
    place = str(tmp_path / "{0..1}.csv")
    failed = [(f"{place}/1.csv row 3", "an earlier row has the same sku")]
    assert run() == failed
    assert contents() == [{"a": 0, "b": 1}, {"c": 2}]
    before = items(layout)
    assert run() == failed
    assert items(layout) == before
    assert_sound(layout)
    # The earlier row goes, so that the later one counts.
    write_tables([("a", 0)], [("c", 2), ("b", 3)])
    assert run() == []
    assert contents() == [{"a": 0}, {"c": 2, "b": 3}]
    assert_sound(layout)
    # It comes back.
    write_tables([("a", 0), ("b", 1)], [("c", 2), ("b", 3)])
    assert run() == failed
    assert contents() == [{"a": 0, "b": 1}, {"c": 2}]
    assert_sound(layout)


def test_changed_choices_read_the_source_again(layout, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "a.toy").write_bytes(b"toy a")
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "t.csv"
    write_table(table, [{"sku": "1", "path": folder / "a.toy", "words": "boat", "price": 1}])
    (failed,) = add(layout, table).failed
    assert "outside" in failed.reason
    assert len(add(layout, table).failed) == 1
    assert counts(add(layout, table, choices={"base": tmp_path})) == {"changed": 1}


def test_new_source_that_cannot_be_listed_is_not_kept(layout, tmp_path):
    pytest.importorskip("fsspec")
    place = "memory://nowhere/at/all"
    add(layout, write_tar(tmp_path / "a.tar", TOYS))
    with pytest.raises(SourceError, match="there is nothing"):
        add(layout, place)
    assert list(items(layout)) == ["a.tar"]
    register_source(layout, Settings(), place.encode(), kind=None, name=None, choices={}, wait_s=0)
    with pytest.raises(SourceError, match="there is nothing"):
        add(layout, place)
    # This one was added on purpose.
    assert list(items(layout)) == ["a.tar", "all"]


def test_failure_of_a_whole_source_is_at_its_place(layout, tmp_path):
    path = write_tar(tmp_path / "a.tar", TOYS)
    path.write_bytes(path.read_bytes()[:700])
    table = tmp_path / "t.csv"
    table.write_text("sku,path\n1,\n2,none.toy\n")
    assert [os.fsdecode(failed.path) for failed in add(layout, path).failed] == [str(path)]
    failed = [os.fsdecode(failed.path) for failed in add(layout, table).failed]
    assert failed == [f"{table}/row 2", f"{table}/none.toy"]


def test_removed_source_keeps_pictures_that_are_elsewhere(layout, tmp_path):
    some = dict(list(TOYS.items())[:3])
    add(layout, write_tar(tmp_path / "a.tar", TOYS))
    add(layout, write_tar(tmp_path / "b.tar", some))
    assert remove_source(layout, "a.tar", 0) == 8
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.pictures == 3
        assert [source.name for source in catalog.sources()] == ["b.tar"]
    with pytest.raises(UnknownNameError, match=r"Known: b\.tar"):
        remove_source(layout, "a.tar", 0)
    assert_sound(layout)


def test_other_encoder_reads_pictures_of_sources_again(layout, tmp_path):
    path = write_tar(tmp_path / "a.tar", TOYS)
    add(layout, path)
    before = items(layout)

    class OtherEncoder(ToyEncoder):
        spec = EncoderSpec("other", ToyEncoder.spec.dim, "1" * 64, {}, 1, 16)

    encoder = OtherEncoder()
    with toy_indexer(layout, encoder) as indexer:
        assert indexer.change_encoder().failed == ()
    assert encoder.encoded == 8
    assert items(layout) == before
    assert_sound(layout)


def test_source_that_cannot_be_used_makes_no_index(layout, tmp_path):
    with pytest.raises(SourceError):
        add(layout, tmp_path / "missing.tar")
    with pytest.raises(UsageError, match="no choice 'nonsense'"):
        add(layout, write_tar(tmp_path / "a.tar", TOYS), choices={"nonsense": 1})
    assert not layout.exists()


def test_thumbnails_are_copied_by_a_backup_and_removed_with_their_pictures(layout, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for number in range(2):
            buffer = io.BytesIO()
            Image.new("RGB", (40, 30), (number * 90, 80, 20)).save(buffer, "PNG")
            archive.writestr(f"{number}.png", buffer.getvalue())
    home = layout.folder.parent
    with mmsearch.open_index("index", home=home, model="starter") as index:
        assert index.add_source(tmp_path / "a.zip").added == 2
        (hit,) = index.search("something", k=1)
        assert hit.uri.startswith(f"{tmp_path}/a.zip/")
        assert index.thumbnail(hit).startswith(b"\xff\xd8")
        with pytest.raises(GoneError, match="keeps a thumbnail"):
            index.original(hit)
        index.backup(tmp_path / "copy")
        names = sorted(path.name for path in layout.thumbnails.rglob("*.jpg"))
        assert len(names) == 2
        index.remove_source("a.zip")
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
            archive.writestr("0.png", buffer.getvalue())
        index.add_source(tmp_path / "b.zip")
        index.compact()
        assert len(list(layout.thumbnails.rglob("*.jpg"))) == 1
    copied = (tmp_path / "copy").rglob("*.jpg")
    assert sorted(path.name for path in copied) == names


def test_uri_with_a_password_is_refused(layout):
    with pytest.raises(UsageError, match="contains a password"):
        add(layout, "https://me:secret@example.org/photos")
