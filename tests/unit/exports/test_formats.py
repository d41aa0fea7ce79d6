"""Every format returns what was written, bit for bit, and refuses what is damaged."""

import importlib.util
import json
import tokenize
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.errors import MissingExtraError, SourceError, UsageError
from mmsearch.core.types import ItemLocator, Picture
from mmsearch.exports import clip_retrieval, parquet
from mmsearch.exports.formats import FORMATS, PART_FORMATS, check_format, load_format
from mmsearch.exports.manifest import NAME, read_manifest
from mmsearch.exports.npy import map_vectors
from mmsearch.exports.pictures import (
    PART_FIELDS,
    ExportBatch,
    ExportedPicture,
    Place,
    from_row,
    rebatch,
    to_row,
    whole_contents,
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
@given(data=st.data(), bits=st.binary(min_size=2, max_size=2))
def test_format_returns_pictures_and_vectors_bit_for_bit(name, data, bits):
    first, second = (data.draw(exported_pictures(format_name=name)) for _ in range(2))
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


def film(parts, number=1):
    """Return the moments of a film."""
    first = replace(make_batch(1).pictures[0], digest=bytes([number]) * 32, kind="video")
    return [
        replace(first, locator=ItemLocator(part, 10 * part, 10 * part + 10), parts=parts)
        for part in range(parts)
    ]


@settings(max_examples=examples(50))
@given(parts=st.lists(st.integers(1, 6), min_size=1, max_size=6), rows=st.integers(1, 9))
def test_whole_contents_keep_pictures_and_split_no_content(parts, rows):
    items = [item for number, count in enumerate(parts) for item in film(count, number)]
    whole = add_vectors(items)
    batches = [whole.slice(start, start + rows) for start in range(0, len(items), rows)]
    result = list(whole_contents(batches))
    assert_same_batches(result, [whole])
    for batch in result:
        assert batch.pictures[0].locator.part == 0
        assert batch.pictures[-1].locator.part == batch.pictures[-1].parts - 1


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("missing", range(4))
def test_content_that_lacks_an_item_is_refused(missing, rows):
    items = [*film(1, 7), *film(4, 8), *film(2, 9)]
    del items[1 + missing]
    whole = add_vectors(items)
    batches = [whole.slice(start, start + rows) for start in range(0, len(items), rows)]
    with pytest.raises(SourceError, match=f"lacks item {missing + 1} of the 4 items of /pictures"):
        list(whole_contents(batches))


def test_last_content_that_lacks_its_end_is_refused():
    with pytest.raises(SourceError, match="lacks item 3 of the 3 items"):
        list(whole_contents([add_vectors(film(3)[:2])]))


@pytest.mark.parametrize("name", PART_FORMATS)
def test_export_of_still_pictures_has_the_version_and_the_columns_of_earlier_ones(name, tmp_path):
    write_export(tmp_path / "still", name, [make_batch()])
    write_export(tmp_path / "film", name, [add_vectors(film(2))])
    still, moving = (tmp_path / each for each in ("still", "film"))
    assert json.loads((still / NAME).read_text())["mmsearch_export"] == 1
    assert json.loads((moving / NAME).read_text())["mmsearch_export"] == 2
    if name == "npy":
        rows = [
            json.loads((at / "pictures.jsonl").read_text().splitlines()[0])
            for at in (still, moving)
        ]
        assert set(rows[1]) - set(rows[0]) == set(PART_FIELDS)
    else:
        from pyarrow.parquet import read_schema

        columns = [set(read_schema(at / "pictures-00000.parquet").names) for at in (still, moving)]
        assert columns[1] - columns[0] == set(PART_FIELDS)


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
    edit_manifest(tmp_path / "export", mmsearch_export=3)
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
        {"kind": "video"},
        {"kind": "video", "part": 2, "parts": 2},
        {"kind": "video", "part": -1, "parts": 2},
        {"kind": 3, "part": 0, "parts": 2},
        {"kind": "video", "part": 0, "parts": 2, "end_ms": "soon"},
        {"kind": "video", "part": 0, "parts": 2, "sha256": None},
        {"texts": [{"kind": "caption", "language": None, "source": "rumour", "text": "a"}]},
    ],
)
def test_from_row_refuses_values_that_no_catalog_holds(change):
    row = to_row(make_batch().pictures[0])
    with pytest.raises((KeyError, ValueError, TypeError)):
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
