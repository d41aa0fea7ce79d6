"""Pictures of archives, tables, stores and records are checked, and encoded again by a repair."""

import sqlite3
import zipfile
from contextlib import closing
from dataclasses import replace

import fsspec
import pytest

from mmsearch.core.errors import SourceError
from mmsearch.core.query import Mode
from mmsearch.core.reports import Verdict
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec, Text
from mmsearch.factories import catalogs, indexing, warm_parts
from mmsearch.maintenance import check as checking
from mmsearch.maintenance import records, repair
from mmsearch.maintenance import reindex as reindexing
from mmsearch.storage.layout import IndexLayout, thumbnail_path
from tests.integration.test_exchange import read_export, run_export, run_import
from tests.integration.test_fused_search import run
from tests.integration.test_source_runs import TOYS, add, counts, items, write_table, write_tar
from tests.toy_index import ToyEncoder, make_toys, replaced, toy_engine


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "home" / "index")


def toys_for_upkeep(encoder=None):
    toys = make_toys(encoder)
    for module in (checking, repair):
        toys[module, "make_modalities"] = toys[indexing, "make_modalities"]
    return toys


def run_check(layout, *, content=False):
    settings = Settings(home=layout.folder.parent, model="toy")
    with replaced(toys_for_upkeep()):
        report = checking.check(layout, settings, lambda line: None, sources=True, content=content)
    return report.verdict, [finding.message for finding in report.findings]


def run_repair(layout, encoder=None):
    settings = Settings(home=layout.folder.parent, model="toy")
    with replaced(toys_for_upkeep(encoder)):
        return repair.repair(layout, settings, lambda line: None, 0, lambda state: None)


def damage_segments(layout):
    for path in (layout.folder / "segments").iterdir():
        path.write_bytes(b"damaged" + path.read_bytes()[7:])


def write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.decode(), content)
    return path


def write_objects(place, contents):
    """Write what has changed of a folder of the store in memory; return its URI."""
    store = fsspec.filesystem("memory")
    known = store.glob(f"{place}/*")
    for path in known:
        if path.rpartition("/")[2].encode() not in contents:
            store.rm(path)
    for name, content in contents.items():
        path = f"{place}/{name.decode()}"
        if path not in known or store.cat_file(path) != content:
            store.pipe_file(path, content)
    return f"memory:/{place}"


def make_source(kind, folder, contents):
    """Write a source of a kind; return its URI, and the choices that index it."""
    folder.mkdir(exist_ok=True)
    if kind == "tar":
        return write_tar(folder / "a.tar", contents), {}
    if kind == "zip":
        return write_zip(folder / "a.zip", contents), {}
    if kind == "remote":
        return write_objects(f"/{folder.parent.name}", contents), {}
    for path in folder.glob("*.toy"):
        if path.name.encode() not in contents:
            path.unlink()
    for name, content in contents.items():
        path = folder / name.decode()
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    rows = [
        {"sku": name.decode(), "path": name.decode(), "words": "", "price": 1} for name in contents
    ]
    write_table(folder / "t.csv", rows)
    return folder / "t.csv", {"choices": {"id_column": "sku"}}


def move_source(kind, folder, name, new_name):
    (folder / name).rename(folder / new_name)
    if kind == "remote":
        store = fsspec.filesystem("memory")
        places = {
            "source": f"/{folder.name}",
            "away": f"/{folder.name}-away",
        }
        store.mv(places[name], places[new_name], recursive=True)


KINDS = ["tar", "zip", "table", "remote"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def indexed(kind, layout, tmp_path):
    """Index of a source; returns the function that writes the source again and its URI."""
    uri, options = make_source(kind, tmp_path / "source", TOYS)
    assert counts(add(layout, uri, **options)) == {"added": 8}
    return lambda contents: make_source(kind, tmp_path / "source", contents), uri


# --- check ---


@pytest.mark.parametrize("content", [False, True])
def test_check_of_an_unchanged_source_is_sound_without_findings(content, indexed, layout):
    assert run_check(layout, content=content) == (Verdict.SOUND, [])


@pytest.mark.parametrize("content", [False, True])
def test_check_names_pictures_that_are_gone_and_changed(content, kind, indexed, layout):
    rewrite, _ = indexed
    changed = {**TOYS, b"3.toy": b"toy that has changed"}
    del changed[b"5.toy"]
    rewrite(changed)
    verdict, messages = run_check(layout, content=content)
    assert verdict == Verdict.SOUND
    assert [message.rpartition("/")[2] for message in sorted(messages)] == [
        "3.toy has changed since it was indexed.",
        "5.toy is not there any more.",
    ]


def test_check_of_a_source_that_is_not_there_says_so_and_calls_nothing_gone(
    kind, indexed, layout, tmp_path
):
    move_source(kind, tmp_path, "source", "away")
    verdict, messages = run_check(layout)
    assert verdict == Verdict.SOUND
    assert messages
    assert not [message for message in messages if "any more" in message]


def test_check_with_content_reads_kept_originals_of_records(layout):
    add_records(layout, keep_originals=True)
    assert run_check(layout, content=True) == (Verdict.SOUND, [])
    path = next(path for path in layout.originals.rglob("*") if path.is_file())
    path.write_bytes(b"other")
    verdict, (message,) = run_check(layout, content=True)
    assert verdict == Verdict.SOUND
    assert "is damaged" in message


# --- repair ---


def test_repair_of_damaged_segments_reads_the_source_again(indexed, layout):
    before = items(layout)
    damage_segments(layout)
    encoder = ToyEncoder()
    report = run_repair(layout, encoder)
    assert (encoder.encoded, report.failed, report.not_kept) == (8, (), ())
    assert items(layout) == before
    with toy_engine(layout) as engine:
        assert engine.search_text("toy 3", 1, Mode.VECTOR).hits[0].key == "3.toy"
    assert run_check(layout, content=True) == (Verdict.SOUND, [])


def test_repair_without_the_source_keeps_its_pictures_as_failed_until_it_is_back(
    kind, indexed, layout, tmp_path
):
    _, uri = indexed
    damage_segments(layout)
    move_source(kind, tmp_path, "source", "away")
    report = run_repair(layout)
    assert len(report.failed) == 8
    with catalogs.open_read(layout) as catalog:
        assert len(catalog.failures()) == 8
    move_source(kind, tmp_path, "away", "source")
    again = add(layout, uri)
    assert (again.encoded, again.failed, again.gone) == (8, (), 0)
    assert run_check(layout, content=True) == (Verdict.SOUND, [])


def test_repair_of_a_catalog_that_lost_rows_reads_the_source_again(indexed, layout):
    before = items(layout)
    with closing(sqlite3.connect(layout.catalog)) as db:
        ((page,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'assets'")
        ((page_bytes,),) = db.execute("PRAGMA page_size")
    content = bytearray(layout.catalog.read_bytes())
    start = (page - 1) * page_bytes
    content[start : start + page_bytes] = bytes(page_bytes)
    layout.catalog.write_bytes(content)
    encoder = ToyEncoder()
    report = run_repair(layout, encoder)
    assert (encoder.encoded, report.failed) == (0, ())
    assert items(layout) == before
    assert run_check(layout, content=True) == (Verdict.SOUND, [])


def add_records(layout, added=None, *, keep_originals):
    if added is None:
        added = [records.Record(n.decode(), records._Loaded(c)) for n, c in TOYS.items()]
    settings = Settings(home=layout.folder.parent, model="toy")
    toys = make_toys()
    toys[warm_parts, "make_modalities"] = toys[indexing, "make_modalities"]
    with replaced(toys), closing(warm_parts.WarmParts(settings, print)) as parts:
        return records.add_records(
            layout,
            settings,
            print,
            added,
            parts,
            keep_originals=keep_originals,
            wait_s=0,
            progress=lambda state: None,
        )


def test_repair_encodes_records_from_their_originals(layout):
    add_records(layout, keep_originals=True)
    damage_segments(layout)
    report = run_repair(layout)
    assert (report.failed, report.not_kept) == ((), ())
    assert run_check(layout) == (Verdict.SOUND, [])
    with toy_engine(layout) as engine:
        assert engine.search_text("toy 3", 1, Mode.VECTOR).hits[0].key == "3.toy"


def write_thumbnails(layout, leave_out=b""):
    """Write thumbnails of records; return the source and the assets."""
    with catalogs.open_read(layout) as catalog:
        (source,) = catalog.sources()
        assets = catalog.list_assets(source.id, b"")
    # Toys have no thumbnails, so other toys stand for them.
    for key, asset in assets.items():
        if key != leave_out:
            path = thumbnail_path(layout.thumbnails, asset.digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"toy small " + key)
    return source, assets


def test_repair_encodes_records_from_thumbnails_and_says_so(layout):
    add_records(layout, keep_originals=False)
    source, assets = write_thumbnails(layout, leave_out=b"7.toy")
    damage_segments(layout)
    report = run_repair(layout)
    assert [failure.path for failure in report.failed] == [b"7.toy"]
    (line,) = report.not_kept
    assert line.startswith("7 records without an original were encoded from their thumbnails")
    with catalogs.open_read(layout) as catalog:
        assert list(catalog.find_assets(source.id, list(assets)).values()).count(None) == 1
    assert run_check(layout) == (Verdict.SOUND, [])


@pytest.mark.parametrize("keep_originals", [True, False])
def test_another_encoder_says_how_many_pictures_it_knows_from_thumbnails(layout, keep_originals):
    add_records(layout, keep_originals=keep_originals)
    if not keep_originals:
        write_thumbnails(layout)

    class OtherEncoder(ToyEncoder):
        spec = EncoderSpec("other", ToyEncoder.spec.dim, "1" * 64, {}, 1, 16)

    lines = []
    settings = Settings(home=layout.folder.parent)
    options = dict.fromkeys(("fusion", "text_weight", "kind_weights", "vector_index"))
    with replaced(make_toys(OtherEncoder())):
        report = reindexing.reindex(
            layout,
            settings,
            lines.append,
            **options,
            reencode=False,
            model="other",
            drop_unreadable=False,
            wait_s=0,
            progress=lambda state: None,
        )
    expected = 0 if keep_originals else len(TOYS)
    assert (report.failed, report.from_thumbnails) == ((), expected)
    said = [line for line in lines if "thumbnails" in line]
    assert [line.split(" ")[0] for line in said] == [str(expected)] * bool(expected)


# --- export and import ---


def content_of(layout):
    """Return what an index has of its sources: assets, texts, metadata, and its pictures."""
    with catalogs.open_read(layout) as catalog:
        assets = {}
        for source in catalog.sources():
            for part in catalog.list_part_keys(source.id):
                keys = sorted(catalog.list_assets(source.id, part))
                stored = catalog.load_assets(source.id, keys)
                for key in keys:
                    item = stored[key]
                    assets[source.name, part, key] = (
                        item.asset,
                        item.metadata,
                        item.texts,
                    )
        sources = sorted((s.kind, s.name, s.uri, str(s.choices)) for s in catalog.sources())
        ids = [item.id for item in catalog.list_live_pictures(0, 100)]
        with catalog.snapshot() as snapshot:
            pictures = {
                record.digest: replace(record, id=0, thumbnail=b"")
                for record in snapshot.records(ids)
            }
        return sources, assets, pictures


def files_below(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def exported(folder):
    """Return the pictures and vectors of an export without their ids, which an import gives."""
    batches = read_export(folder)
    pictures = [replace(item, id=0) for batch in batches for item in batch.pictures]
    return pictures, [(batch.images.tolist(), batch.texts.tolist()) for batch in batches]


@pytest.mark.parametrize("format_name", ["npy", "parquet", "clip-retrieval"])
def test_sources_and_records_survive_an_export_and_an_import(format_name, layout, tmp_path):
    for kind in KINDS:
        uri, options = make_source(kind, tmp_path / kind, TOYS)
        add(layout, uri, **options)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "0.toy").write_bytes(TOYS[b"0.toy"])
    (photos / "only here.toy").write_bytes(b"toy only here")
    run(layout, photos)
    added = [
        records.Record(
            f"sku/{number} \N{SNOWMAN}",
            records._Loaded(b"toy record %d" % (number % 3)),
            (Text("caption", f"offer {number}", None, "table"),),
            {"price": number, "tags": ["a", "b"]},
        )
        for number in range(5)
    ]
    add_records(layout, added, keep_originals=True)
    with catalogs.open_read(layout) as catalog:
        digest = catalog.list_live_pictures(0, 1)[0].digest
    thumbnail = thumbnail_path(layout.thumbnails, digest)
    thumbnail.parent.mkdir(parents=True, exist_ok=True)
    thumbnail.write_bytes(b"a thumbnail")
    other = IndexLayout(tmp_path / "home" / "other")
    run_export(layout, tmp_path / "a", format_name)
    run_import(other, tmp_path / "a")
    assert content_of(other) == content_of(layout)
    assert files_below(other.thumbnails) == files_below(layout.thumbnails)
    assert files_below(other.originals) == files_below(layout.originals)
    run_export(other, tmp_path / "b", format_name)
    assert exported(tmp_path / "a") == exported(tmp_path / "b")
    again = run_import(other, tmp_path / "a")
    assert (again.added, again.copied) == (0, 0)
    assert run_check(other, content=True)[0] == Verdict.SOUND
    # Nothing is read again: the stamps are those of the export.
    encoder = ToyEncoder()
    report = add(other, make_source("zip", tmp_path / "zip", TOYS)[0], encoder)
    assert (counts(report), encoder.encoded) == ({"unchanged": 8}, 0)


def test_import_keeps_the_choices_of_a_source_that_the_index_has(layout, tmp_path):
    uri, _ = make_source("zip", tmp_path / "zip", TOYS)
    add(layout, uri)
    run_export(layout, tmp_path / "a")
    other = IndexLayout(tmp_path / "home" / "other")
    add(other, uri, choices={"hidden": True}, name="mine")
    assert run_import(other, tmp_path / "a").unchanged == 8
    with catalogs.open_read(other) as catalog:
        assert [(s.name, s.choices) for s in catalog.sources()] == [("mine", {"hidden": True})]


def test_import_of_a_damaged_original_is_refused(layout, tmp_path):
    add_records(layout, keep_originals=True)
    run_export(layout, tmp_path / "a")
    path = tmp_path / "a" / "kept.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"toy 3", b"toy X"))
    with pytest.raises(SourceError, match="damaged original"):
        run_import(IndexLayout(tmp_path / "home" / "other"), tmp_path / "a")
