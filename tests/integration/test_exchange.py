"""An index survives an export and an import, and vectors of other programs become one."""

import hashlib
import json
import os
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmsearch as library
from mmsearch.core.errors import (
    EncoderMismatchError,
    SourceError,
    StateError,
    UnknownNameError,
    UsageError,
)
from mmsearch.core.records import IndexCalibration
from mmsearch.core.results import IndexRequest
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec, Picture, Text
from mmsearch.exports import npy
from mmsearch.exports.formats import FORMATS, load_format
from mmsearch.exports.manifest import read_manifest
from mmsearch.exports.pictures import ExportedPicture, Place
from mmsearch.factories import catalogs
from mmsearch.maintenance import import_embeddings as importing
from mmsearch.maintenance.export import export
from mmsearch.maintenance.import_embeddings import ImportRequest
from mmsearch.storage.layout import IndexLayout
from tests.exported_pictures import (
    SPEC,
    add_vectors,
    assert_same_batches,
    edit_manifest,
    exported_pictures,
    write_export,
)
from tests.property_budget import examples
from tests.toy_index import ToyEncoder, make_toys, replaced, toy_engine, toy_indexer

PICTURES = 9


class OtherEncoder(ToyEncoder):
    spec = replace(ToyEncoder.spec, code_version=2)


class RenamedEncoder(ToyEncoder):
    spec = replace(ToyEncoder.spec, name="other", code_version=2)


def run_export(layout, folder, format_name="npy"):
    return export(layout, folder, format_name, lambda progress: None)


def run_import(layout, folder, *, encoder=None, progress=lambda progress: None, **options):
    request = ImportRequest(folder, **options)
    with replaced(make_toys(encoder)):
        return importing.import_embeddings(
            layout, Settings(device="cpu"), print, request, 0, progress
        )


def read_export(folder):
    manifest = read_manifest(folder)
    return list(load_format(manifest.format).open_reader(folder, manifest).iter_batches())


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def index_folder(layout, folder, encoder=None):
    with toy_indexer(layout, encoder, fusion=FusionSpec("weighted")) as indexer:
        return indexer.run(IndexRequest(os.fsencode(folder)))


@pytest.fixture
def toys(tmp_path):
    """Folder of toy pictures, some with captions, one of them twice, one with another name."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(PICTURES):
        (folder / f"{number}.toy").write_text(f"toy {number}")
        if number % 2:
            (folder / f"{number}.toy.txt").write_text(f"caption {number}")
    (folder / "below" / "copy.toy").write_text("toy 3")
    Path(os.fsdecode(os.fsencode(folder) + b"/not utf-8 \xff.toy")).write_text("toy 99")
    return folder


@pytest.fixture
def layout(toys, tmp_path):
    layout = IndexLayout(tmp_path / "home" / "exported")
    index_folder(layout, toys)
    return layout


@pytest.fixture
def other(tmp_path):
    return IndexLayout(tmp_path / "home" / "imported")


def hits_of(layout):
    with toy_engine(layout) as engine:
        return [
            [replace(hit, id=0) for hit in engine.search_text(text, 20, mode=mode).hits]
            for text in ("toy 4", "caption 3", "anything")
            for mode in ("vector", "text", "hybrid")
        ]


# --- round trips ---


@pytest.mark.parametrize("format_name", FORMATS)
@settings(max_examples=examples(25))
@given(data=st.data(), seed=st.integers(0, 9))
def test_export_of_an_imported_index_equals_the_export(format_name, data, seed):
    items = data.draw(exported_pictures(format_name=format_name))
    contents = len({item.digest for item in items})
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_export(folder / "a", format_name, [add_vectors(items, seed)])
        report = run_import(IndexLayout(folder / "index"), folder / "a")
        run_export(IndexLayout(folder / "index"), folder / "b", format_name)
        assert (report.added, report.pictures) == (contents, contents)
        assert_same_batches(read_export(folder / "b"), read_export(folder / "a"))


@pytest.mark.parametrize("format_name", FORMATS)
def test_imported_index_exports_the_same_files_and_gives_the_same_answers(
    format_name, layout, other, tmp_path
):
    run_export(layout, tmp_path / "a", format_name)
    run_import(other, tmp_path / "a")
    run_export(other, tmp_path / "b", format_name)
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")
    assert hits_of(other) == hits_of(layout)
    with catalogs.open_read(other) as ours, catalogs.open_read(layout) as theirs:
        assert ours.identity() == theirs.identity()
        with ours.snapshot() as left, theirs.snapshot() as right:
            ids = range(1, left.pictures + 1)
            assert left.records(ids) == right.records(ids)


def test_folder_of_imported_pictures_is_not_encoded_again(layout, other, toys, tmp_path):
    run_export(layout, tmp_path / "a")
    run_import(other, tmp_path / "a")
    encoder = ToyEncoder()
    report = index_folder(other, toys, encoder)
    assert (report.unchanged, report.encoded, encoder.encoded) == (PICTURES + 2, 0, 0)
    assert report.retold == 0


def test_file_that_has_changed_since_the_export_is_encoded(layout, other, toys, tmp_path):
    run_export(layout, tmp_path / "a")
    path = toys / "4.toy"
    before = path.stat()
    path.write_text("toy X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run_import(other, tmp_path / "a")
    report = index_folder(other, toys)
    assert (report.changed, report.encoded, report.unnoticed) == (1, 1, 1)


def test_import_below_another_root_finds_the_files_there(layout, other, toys, tmp_path):
    run_export(layout, tmp_path / "a")
    moved = toys.rename(tmp_path / "moved")
    run_import(other, tmp_path / "a", root=os.fsencode(moved))
    report = index_folder(other, moved)
    assert (report.unchanged, report.encoded) == (PICTURES + 2, 0)


def test_removed_pictures_are_not_exported(layout, other, toys, tmp_path):
    (toys / "4.toy").unlink()
    index_folder(layout, toys)
    report = run_export(layout, tmp_path / "a")
    assert report.pictures == PICTURES
    run_import(other, tmp_path / "a")
    assert hits_of(other) == hits_of(layout)


def test_second_import_changes_nothing(layout, other, tmp_path):
    run_export(layout, tmp_path / "a")
    run_import(other, tmp_path / "a")
    report = run_import(other, tmp_path / "a")
    assert (report.added, report.copied, report.unchanged) == (0, 0, PICTURES + 1)
    run_export(other, tmp_path / "b")
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")


def test_import_into_the_index_of_the_export_changes_nothing(layout, tmp_path):
    run_export(layout, tmp_path / "a")
    assert run_import(layout, tmp_path / "a").unchanged == PICTURES + 1
    run_export(layout, tmp_path / "b")
    assert read_files(tmp_path / "a") == read_files(tmp_path / "b")


def test_interrupted_import_continues(layout, other, tmp_path, monkeypatch):
    run_export(layout, tmp_path / "a")
    monkeypatch.setattr(npy, "BATCH_ROWS", 4)

    def interrupt(progress):
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_import(other, tmp_path / "a", progress=interrupt)
    with catalogs.open_read(other) as catalog, catalog.snapshot() as snapshot:
        assert snapshot.pictures == 4
        assert catalog.last_run().outcome == "interrupted"
    report = run_import(other, tmp_path / "a")
    assert (report.added, report.unchanged) == (PICTURES - 3, 4)
    assert hits_of(other) == hits_of(layout)


def test_path_with_newer_content_in_the_index_is_kept(layout, other, toys, tmp_path):
    run_export(layout, tmp_path / "a")
    (toys / "4.toy").write_text("something newer")
    index_folder(other, toys)
    report = run_import(other, tmp_path / "a")
    assert (report.kept, report.added, report.unchanged) == (1, 0, PICTURES)


def test_export_and_import_write_an_index_that_passes_a_check(layout, other, tmp_path):
    run_export(layout, tmp_path / "a", "parquet")
    run_import(other, tmp_path / "a")
    with replaced(make_toys()), library.open_index(other.name, home=other.folder.parent) as index:
        assert index.check().verdict == "sound"


# --- what is refused ---


def test_export_refuses_a_folder_that_is_not_empty(layout, tmp_path):
    (tmp_path / "a").mkdir()
    run_export(layout, tmp_path / "a")
    with pytest.raises(SourceError, match="exists already"):
        run_export(layout, tmp_path / "a")


def test_failed_export_leaves_nothing(layout, tmp_path):
    with catalogs.open_read(layout) as catalog:
        path = layout.path(catalog.segments()[0].file_ref)
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    before = set(tmp_path.rglob("*"))
    with pytest.raises(StateError):
        run_export(layout, tmp_path / "new" / "a")
    assert set(tmp_path.rglob("*")) == before


def test_export_of_an_empty_index_is_refused(other, tmp_path):
    with toy_indexer(other):
        pass
    with pytest.raises(StateError, match="no pictures"):
        run_export(other, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_import_into_an_index_of_another_encoder_is_refused(layout, other, tmp_path):
    run_export(layout, tmp_path / "a")
    index_folder(other, tmp_path / "photos", OtherEncoder())
    with pytest.raises(EncoderMismatchError, match="cannot be compared") as raised:
        run_import(other, tmp_path / "a")
    assert "--index" in raised.value.command_text


@pytest.mark.parametrize("model", [None, "toy"])
def test_import_is_refused_if_the_model_here_is_another_one(model, layout, other, tmp_path):
    run_export(layout, tmp_path / "a")
    with pytest.raises(EncoderMismatchError, match="Use the model and the version"):
        run_import(other, tmp_path / "a", model=model, encoder=OtherEncoder())
    assert not other.folder.exists()


def test_import_with_another_model_than_that_of_the_index_is_refused(foreign, layout):
    with pytest.raises(EncoderMismatchError, match="Leave out the model"):
        run_import(layout, foreign, format="npy", model="other", encoder=RenamedEncoder())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "parquet"}, "has the format npy, not parquet"),
        ({"format": "csv"}, "Unknown format"),
    ],
)
def test_import_with_wrong_options_is_refused(options, message, layout, other, tmp_path):
    run_export(layout, tmp_path / "a")
    with pytest.raises(UsageError, match=message):
        run_import(other, tmp_path / "a", **options)
    assert not other.folder.exists()


def test_import_of_a_missing_folder_is_refused(other, tmp_path):
    with pytest.raises(SourceError, match="is not a folder"):
        run_import(other, tmp_path / "none")


@pytest.mark.parametrize("key", [b"../x.jpg", b"/etc/passwd", b"a\0b", b""])
def test_import_of_a_path_outside_its_folder_is_refused(key, other, tmp_path):
    item = ExportedPicture(1, bytes(32), (Place(b"/pictures", key),), 1, 1, Picture(1, 1, "JPEG"))
    write_export(tmp_path / "a", "npy", [add_vectors([item])])
    with pytest.raises(SourceError, match="not in a folder of the export"):
        run_import(other, tmp_path / "a")


def test_import_of_unknown_and_relative_roots_is_refused(other, tmp_path):
    item = ExportedPicture(1, bytes(32), (Place(b"/x", b"a"),), 1, 1, Picture(1, 1, "JPEG"))
    write_export(tmp_path / "a", "npy", [add_vectors([item])])
    with pytest.raises(SourceError, match="not in a folder of the export"):
        run_import(other, tmp_path / "a")
    write_export(tmp_path / "b", "npy", [add_vectors([item])], roots=(b"relative",))
    with pytest.raises(SourceError, match="not an absolute path"):
        run_import(other, tmp_path / "b")


def test_import_of_several_folders_below_one_root_is_refused(other, tmp_path):
    item = ExportedPicture(1, bytes(32), (Place(b"/pictures", b"a"),), 1, 1, Picture(1, 1, "PNG"))
    write_export(tmp_path / "a", "npy", [add_vectors([item])])
    with pytest.raises(UsageError, match="pictures of 2 folders") as raised:
        run_import(other, tmp_path / "a", root=b"/new")
    assert "mmsearch roots set" in raised.value.command_text


@pytest.mark.parametrize("value", [0.0, np.nan, 3.0])
def test_import_of_vectors_that_are_not_unit_vectors_is_refused(value, other, tmp_path):
    item = ExportedPicture(1, bytes(32), (Place(b"/pictures", b"a"),), 1, 1, Picture(1, 1, "PNG"))
    batch = add_vectors([item])
    batch.images[0] = value
    write_export(tmp_path / "a", "npy", [batch])
    with pytest.raises(SourceError, match="norm is not 1"):
        run_import(other, tmp_path / "a")


@pytest.mark.parametrize("name", ["fusion", "vector_index"])
def test_import_of_settings_that_name_an_unknown_part_is_refused(name, layout, other, tmp_path):
    run_export(layout, tmp_path / "a")
    settings = json.loads((tmp_path / "a" / "mmsearch-export.json").read_text())["settings"]
    settings[name] = {"name": "other"} if name == "fusion" else "other"
    edit_manifest(tmp_path / "a", settings=settings)
    with pytest.raises(UnknownNameError, match="other"):
        run_import(other, tmp_path / "a")
    assert not other.folder.exists()


def test_calibration_of_the_index_is_imported(layout, other, tmp_path):
    run_export(layout, tmp_path / "a")
    values = {"encoder": SPEC.fingerprint, "background": "", "created_at": "2026-01-01"}
    numbers = [field.name for field in fields(IndexCalibration) if field.name not in values]
    calibration = dict.fromkeys(numbers, 0.5) | values
    edit_manifest(tmp_path / "a", calibration=calibration)
    run_import(other, tmp_path / "a")
    with catalogs.open_read(other) as catalog, catalog.snapshot() as snapshot:
        assert vars(snapshot.calibration) == calibration


# --- exports of other programs ---


def toy_vectors(numbers, dtype=np.float32, scale=1.0):
    encoder = ToyEncoder()
    inputs = [encoder.prepare("text", f"toy {number}") for number in numbers]
    return (scale * encoder.encode("image", inputs)).astype(dtype)


@pytest.fixture
def foreign(toys, tmp_path):
    """Folder with vectors of any norm and the paths of the pictures."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    np.save(folder / "vectors.npy", toy_vectors(range(PICTURES), scale=7.5))
    paths = [toys / f"{number}.toy" for number in range(PICTURES)]
    (folder / "paths.txt").write_text("".join(f"{path}\n" for path in paths))
    return folder


def test_vectors_and_paths_become_an_index_without_encoding_the_pictures(
    foreign, toys, layout, other
):
    report = run_import(other, foreign, format="npy", model="toy")
    assert (report.added, report.unverified) == (PICTURES, 0)
    with toy_engine(other) as engine, toy_engine(layout) as reference:
        (hit,) = engine.search_text("toy 4", 1, mode="vector").hits
        (expected,) = reference.search_text("toy 4", 1, mode="vector").hits
    assert hit.path == expected.path == toys / "4.toy"
    assert hit.score == pytest.approx(expected.score, abs=1e-3)
    encoder = ToyEncoder()
    report = index_folder(other, toys, encoder)
    # The copy has the content of an imported picture; one file is not in the export.
    assert (report.unchanged, report.copied, report.encoded) == (PICTURES, 1, 1)


def test_missing_files_of_another_program_are_found_and_encoded_once_indexed(foreign, toys, other):
    path = toys / "4.toy"
    content = path.read_bytes()
    path.unlink()
    report = run_import(other, foreign, format="npy", model="toy")
    assert (report.added, report.unverified) == (PICTURES, 1)
    assert run_import(other, foreign, format="npy", model="toy").unchanged == PICTURES
    with toy_engine(other) as engine:
        assert engine.search_text("toy 4", 1, mode="vector").hits[0].path == path
    path.write_bytes(content)
    report = index_folder(other, toys)
    assert (report.changed, report.encoded) == (1, 2)


def test_json_lines_have_captions_that_are_searched_as_words(foreign, toys, other):
    (foreign / "paths.txt").unlink()
    rows = [{"image_path": f"./{number}.toy", "caption": f"word{number}"} for number in range(9)]
    (foreign / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run_import(other, foreign, format="npy", model="toy", root=os.fsencode(toys))
    with toy_engine(other) as engine:
        (hit,) = engine.search_text("word4", 3, mode="text").hits
        assert hit.path == toys / "4.toy"


def test_clip_retrieval_folder_becomes_an_index_with_its_captions(toys, other, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    folder = tmp_path / "clip"
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    # Part 10 comes after part 9, although its name sorts first.
    for part, numbers in ((9, [0, 1, 2, 3]), (10, [4, 5, 6, 7, 8])):
        np.save(folder / f"img_emb/img_emb_{part}.npy", toy_vectors(numbers, np.float16))
        captions = toy_vectors([100 + number for number in numbers], np.float16)
        captions[0] = 0
        np.save(folder / f"text_emb/text_emb_{part}.npy", captions)
        table = {
            "image_path": [str(toys / f"{number}.toy") for number in numbers],
            "caption": [f"caption {number}" for number in numbers],
            "width": [640.0] * len(numbers),
            "height": [480.0] * len(numbers),
            "sha256": ["of the download"] * len(numbers),
        }
        parquet.write_table(pa.table(table), folder / f"metadata/metadata_{part}.parquet")
    report = run_import(other, folder, format="clip-retrieval", model="toy")
    assert (report.added, report.unverified) == (PICTURES, 0)
    run_export(other, tmp_path / "a")
    (batch,) = read_export(tmp_path / "a")
    assert [item.id for item in batch.pictures] == list(range(1, PICTURES + 1))
    for number, item in enumerate(batch.pictures):
        assert item.places == (Place(os.fsencode(toys), b"%d.toy" % number),)
        assert item.digest == hashlib.sha256(f"toy {number}".encode()).digest()
        assert item.picture.texts == (Text("caption", f"caption {number}", None, "table"),)
        assert (item.picture.width, item.picture.height) == (640, 480)
        assert item.text_kinds == (() if number in (0, 4) else ("caption",))
    assert np.array_equal(batch.images, toy_vectors(range(PICTURES), np.float16))
    # A run encodes the two captions that came without a vector, and nothing else.
    encoder = ToyEncoder()
    report = index_folder(other, toys, encoder)
    assert report.retold >= 2
    assert encoder.encoded == 1


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ("", {"model": None}, "does not say which model"),
        ("", {"format": None}, "its format is not known"),
        ("dim", {}, "have 5 dimensions"),
        ("zero", {}, "is zero or not finite"),
        ("lines", {}, "lines for 9 vectors"),
        ("relative", {}, "is not absolute"),
        ("empty", {}, "names no picture"),
        ("outside", {"root": b"/elsewhere"}, "not in a folder of the export"),
        ("apart", {}, "no folder in common"),
        ("two", {}, "2 .npy files"),
    ],
)
def test_unusable_export_of_another_program_is_refused(change, options, message, foreign, other):
    vectors, paths = np.load(foreign / "vectors.npy"), (foreign / "paths.txt").read_text()
    lines = paths.splitlines()
    if change == "dim":
        vectors = vectors[:, :5]
    elif change == "zero":
        vectors[3] = 0
    elif change == "lines":
        lines.pop()
    elif change == "relative":
        lines[2] = "a.toy"
    elif change == "empty":
        lines[2] = ""
    elif change == "apart":
        lines[2] = "/elsewhere/a.toy"
    elif change == "two":
        np.save(foreign / "more.npy", vectors)
    np.save(foreign / "vectors.npy", vectors)
    (foreign / "paths.txt").write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises((UsageError, SourceError), match=message):
        run_import(other, foreign, **({"format": "npy", "model": "toy"} | options))


# --- the command and the Python API ---


def test_command_exports_and_imports_with_the_same_answers(photo_index, mmsearch, tmp_path):
    home = tmp_path / "home"
    done = mmsearch("export", tmp_path / "a", "--home", photo_index)
    assert done.out.startswith("212 pictures, 0 text vectors,")
    done = mmsearch("import", tmp_path / "a", "--home", home)
    assert done.out.startswith("212 pictures read: 212 added, in ")
    ours, theirs = (
        mmsearch("query", "a dog", "-k", "20", "--home", at).out for at in (home, photo_index)
    )
    assert ours == theirs
    report = json.loads(mmsearch("import", tmp_path / "a", "--home", home, "--json").out)
    assert (report["added"], report["unchanged"]) == (0, 212)
    assert "exists already" in mmsearch("export", tmp_path / "a", "--home", home, code=2).err
    assert "must be parquet" in mmsearch("export", tmp_path / "b", "--format", "x", code=2).err
    assert "is not a folder" in mmsearch("import", tmp_path / "b", "--home", home, code=2).err


def test_index_methods_export_and_import(photo_index, tmp_path):
    seen = []
    with library.open_index(home=photo_index) as index:
        report = index.export(tmp_path / "a", format="npy", progress=seen.append)
        with pytest.raises(UsageError, match="format must be a string"):
            index.export(tmp_path / "b", format=3)
    assert (report.pictures, report.format, seen[-1].done) == (212, "npy", 212)
    with library.open_index("other", home=tmp_path) as index:
        assert index.import_embeddings(tmp_path / "a").added == 212
        assert index.search("a dog", 3)
