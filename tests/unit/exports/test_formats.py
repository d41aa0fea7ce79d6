"""Every format returns what was written, bit for bit, and refuses what is damaged."""

import importlib.util
import tokenize
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.errors import MissingExtraError, SourceError, UsageError
from mmsearch.core.types import Picture
from mmsearch.exports import clip_retrieval, parquet
from mmsearch.exports.formats import FORMATS, check_format, load_format
from mmsearch.exports.manifest import NAME, read_manifest
from mmsearch.exports.npy import map_vectors
from mmsearch.exports.pictures import (
    ExportBatch,
    ExportedPicture,
    Place,
    from_row,
    rebatch,
    to_row,
)
from tests.exported_pictures import (
    SPEC,
    add_vectors,
    assert_same_batches,
    edit_manifest,
    exported_pictures,
    write_export,
)
from tests.property_budget import examples


def read_export(folder):
    manifest = read_manifest(folder)
    return list(load_format(manifest.format).open_reader(folder, manifest).iter_batches())


def make_batch(count=3, text_kinds=("caption",), seed=0):
    items = [
        ExportedPicture(
            number + 1,
            bytes([number]) * 32,
            (Place(b"/pictures", b"%d.jpg" % number),),
            9,
            9,
            Picture(4, 3, "JPEG"),
            b"",
            text_kinds,
        )
        for number in range(count)
    ]
    return add_vectors(items, seed)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=examples(30))
@given(
    first=exported_pictures(), second=exported_pictures(), bits=st.binary(min_size=2, max_size=2)
)
def test_format_returns_pictures_and_vectors_bit_for_bit(name, first, second, bits):
    batches = [add_vectors(first, 1), add_vectors(second, 2)]
    # Any bits survive, also those of a number that is not finite.
    batches[0].images[0, 0] = np.frombuffer(bits, np.float16)[0]
    with TemporaryDirectory() as folder:
        write_export(Path(folder) / "export", name, batches)
        assert_same_batches(read_export(Path(folder) / "export"), batches)


@given(exported_pictures(max_size=3))
@settings(max_examples=examples(100))
def test_from_row_inverts_to_row(items):
    assert [from_row(to_row(item)) for item in items] == items


@settings(max_examples=examples(50))
@given(sizes=st.lists(st.integers(1, 7), min_size=1, max_size=6), rows=st.integers(1, 9))
def test_rebatch_keeps_pictures_and_gives_full_batches(sizes, rows):
    whole = make_batch(sum(sizes), ("a", "b"))
    ends = np.cumsum(sizes).tolist()
    batches = [whole.slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    result = list(rebatch(batches, rows))
    assert {len(batch.pictures) for batch in result[:-1]} <= {rows}
    assert 0 < len(result[-1].pictures) <= rows
    assert_same_batches(result, [whole])


@pytest.mark.parametrize("module", [parquet, clip_retrieval])
def test_writer_of_many_pictures_starts_new_files(module, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "ROWS_PER_FILE", 4)
    batches = [make_batch(2, seed=seed) for seed in range(5)]
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    manifest = write_export(tmp_path / "export", name, batches)
    assert sum("0002." in path for path in manifest.files) >= 1
    assert_same_batches(read_export(tmp_path / "export"), batches)


def test_clip_retrieval_without_text_vectors_has_no_text_index(tmp_path):
    write_export(tmp_path / "export", "clip-retrieval", [make_batch(text_kinds=())])
    assert {path.name for path in (tmp_path / "export").iterdir()} == {NAME, "img_emb", "metadata"}
    assert_same_batches(read_export(tmp_path / "export"), [make_batch(text_kinds=())])


def test_parquet_has_lists_of_fixed_size_of_float16_and_names_the_encoder(tmp_path):
    from pyarrow import float16, list_
    from pyarrow.parquet import read_schema

    write_export(tmp_path / "export", "parquet", [make_batch()])
    schema = read_schema(tmp_path / "export" / "pictures-00000.parquet")
    assert schema.field("image_vector").type == list_(float16(), SPEC.dim)
    assert schema.metadata[b"mmsearch.fingerprint"].decode() == SPEC.fingerprint
    assert schema.metadata[b"mmsearch.encoder"].decode() == SPEC.name
    assert int(schema.metadata[b"mmsearch.dim"]) == SPEC.dim


def test_npy_vectors_are_plain_arrays(tmp_path):
    batches = [make_batch(2, seed=1), make_batch(1, seed=2)]
    write_export(tmp_path / "export", "npy", batches)
    images = np.load(tmp_path / "export" / "image_vectors.npy")
    assert np.array_equal(images, np.concatenate([batch.images for batch in batches]))


@pytest.mark.parametrize("name", FORMATS)
def test_export_with_a_missing_or_short_file_is_refused(name, tmp_path):
    manifest = write_export(tmp_path / "export", name, [make_batch()])
    for file in manifest.files:
        path = tmp_path / "export" / file
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(SourceError, match="is not complete"):
            read_manifest(tmp_path / "export")
        path.unlink()
        with pytest.raises(SourceError, match="is missing"):
            read_manifest(tmp_path / "export")
        path.write_bytes(content)


@pytest.mark.parametrize("name", FORMATS)
def test_export_with_a_changed_byte_is_refused_or_the_same_facts(name, tmp_path):
    manifest = write_export(tmp_path / "export", name, [make_batch()])
    random = np.random.default_rng(0)
    for file in manifest.files:
        path = tmp_path / "export" / file
        content = path.read_bytes()
        for at in random.integers(0, len(content), 20).tolist():
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
            try:
                batches = read_export(tmp_path / "export")
            except SourceError:
                continue
            assert all(isinstance(batch, ExportBatch) for batch in batches)
        path.write_bytes(content)


@pytest.mark.parametrize("error", [ValueError, EOFError, OverflowError, tokenize.TokenError])
def test_npy_header_that_numpy_cannot_read_is_refused(error, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise error("unterminated string literal")

    write_export(tmp_path / "export", "npy", [make_batch()])
    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(SourceError, match="is not an array of NumPy"):
        read_export(tmp_path / "export")


def test_parquet_with_a_changed_vector_is_refused(tmp_path):
    write_export(tmp_path / "export", "parquet", [make_batch()])
    path = tmp_path / "export" / "pictures-00000.parquet"
    content = bytearray(path.read_bytes())
    at = content.find(make_batch().images[1].tobytes()[:40])
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match="cannot be read"):
        read_export(tmp_path / "export")


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": {}},
        {"fingerprint": "0" * 16},
        {"files": 3},
        {"roots": [{"hex": "x"}]},
        {"files": {"../a.parquet": 1}},
    ],
)
def test_damaged_manifest_is_refused(changes, tmp_path):
    write_export(tmp_path / "export", "npy", [make_batch()])
    edit_manifest(tmp_path / "export", **changes)
    with pytest.raises(SourceError, match="is damaged"):
        read_manifest(tmp_path / "export")


def test_manifest_of_a_newer_version_says_upgrade(tmp_path):
    write_export(tmp_path / "export", "npy", [make_batch()])
    edit_manifest(tmp_path / "export", mmsearch_export=2)
    with pytest.raises(SourceError, match=r"newer mmsearch.*Upgrade"):
        read_manifest(tmp_path / "export")


def test_read_manifest_of_another_program_is_none(tmp_path):
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": b"short"},
        {"width": -1},
        {"width": True},
        {"taken_at": "yesterday"},
        {"latitude": 91.0},
        {"longitude": float("nan")},
        {"rating": 6},
        {"camera": 3},
        {"texts": [{"kind": "caption", "language": None, "source": "rumour", "text": "a"}]},
    ],
)
def test_from_row_refuses_values_that_no_catalog_holds(change):
    row = to_row(make_batch().pictures[0])
    with pytest.raises((ValueError, TypeError)):
        from_row(row | change)


def test_check_format_names_the_formats_and_the_missing_extra(monkeypatch):
    with pytest.raises(UsageError, match="Use parquet, npy or clip-retrieval"):
        check_format("csv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"\[parquet\]"):
        check_format("clip-retrieval")
    check_format("npy")


def test_map_vectors_refuses_arrays_that_are_no_vectors(tmp_path):
    for array in (np.zeros(3), np.zeros((2, 3), np.int64), np.array([[None]], dtype=object)):
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
        with pytest.raises(SourceError):
            map_vectors(tmp_path / "a.npy")
