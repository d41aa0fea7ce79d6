"""Queries by indexed pictures: stored vectors give the same results as encoding the files."""

import os
import shutil

import numpy as np
import pytest

import mmsearch
from mmsearch import SearchRequest, Term
from mmsearch.core.errors import DamagedFileError, UnknownNameError
from mmsearch.core.query import Query
from mmsearch.core.results import IndexRequest
from mmsearch.core.types import FusionSpec, InputKind
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_image_vectors, read_segment
from tests.integration.test_indexer_law import write
from tests.toy_index import ToyEncoder, toy_engine, toy_indexer

TOLERANCE = 1e-3
"""Tolerance of a score, because float16 keeps eleven bits of each column."""

FUSIONS = ("image", "weighted", "concat", "attention")


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    target = tmp_path_factory.mktemp("stored") / "some"
    target.mkdir()
    for path in sorted((photos / "photos").iterdir())[::3]:
        shutil.copy2(path, target)
    return target


@pytest.fixture(scope="module")
def home(folder, environment):
    home = folder.parent / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with mmsearch.open_index(home=home, model="starter") as index:
            index.add_folder(folder)
    return home


def copy_to(path, folder):
    """Copy a picture to a folder outside the index, so that a search must encode it."""
    folder.mkdir(exist_ok=True)
    return shutil.copy(path, folder / path.name)


def assert_equal(answer, expected):
    assert answer.pictures == expected.pictures > 0
    assert answer.match == expected.match
    assert [hit.id for hit in answer.hits] == [hit.id for hit in expected.hits]
    for one, other in zip(answer.hits, expected.hits, strict=True):
        assert one.score == pytest.approx(other.score, abs=TOLERANCE)
        assert one.visual == pytest.approx(other.visual, abs=TOLERANCE)
        assert one.confidence == pytest.approx(other.confidence, abs=0.01)
        assert one.matched == other.matched


def test_search_by_picture_id_equals_search_by_its_file(home, folder, tmp_path):
    with mmsearch.open_index(home=home) as index:
        for path in sorted(folder.iterdir())[::7]:
            copy = copy_to(path, tmp_path / "copies")
            expected = index.query(SearchRequest(Query((Term(image=copy),)), 10))
            (self_hit, *_) = expected.hits
            assert_equal(
                index.query(SearchRequest(Query((Term(picture=self_hit.id),)), 10)), expected
            )


def test_search_by_weighted_picture_ids_equals_search_by_files(home, folder, tmp_path):
    one, other = sorted(folder.iterdir())[5], sorted(folder.iterdir())[20]
    with mmsearch.open_index(home=home) as index:
        ids = [index.similar(copy_to(path, tmp_path / "copies"), 1)[0].id for path in (one, other)]
        by_file = (
            Term(image=tmp_path / "copies" / one.name, weight=3.0),
            Term(image=tmp_path / "copies" / other.name, weight=0.5),
            Term("snow", weight=-1.0),
        )
        by_id = (Term(picture=ids[0], weight=3.0), Term(picture=ids[1], weight=0.5), by_file[2])
        expected = index.query(SearchRequest(Query(by_file), 10))
        answer = index.query(SearchRequest(Query(by_id), 10))
    assert_equal(answer, expected)
    assert answer.query == f"3:picture {ids[0]} + 0.5:picture {ids[1]} - snow"


def test_embedding_of_picture_id_equals_embedding_of_its_file(home, folder, tmp_path):
    path = min(folder.iterdir())
    with mmsearch.open_index(home=home) as index:
        encoded = index.embed([Term(image=copy_to(path, tmp_path))])
        hit = index.similar(path, 1)[0]
        assert np.abs(index.embed([Term(picture=hit.id)]) - encoded).max() < TOLERANCE
        assert np.abs(index.embed([Term(image=path)]) - encoded).max() < TOLERANCE


@pytest.fixture
def nothing_is_encoded(monkeypatch):
    """Fail the test if it encodes or decodes a picture."""
    encode = TwoTowerEncoder.encode

    def fail_on_image(self, kind, batch):
        assert kind != InputKind.IMAGE, "a picture is encoded"
        return encode(self, kind, batch)

    def fail_on_decode(*_):
        raise AssertionError("a picture is decoded")

    monkeypatch.setattr(TwoTowerEncoder, "encode", fail_on_image)
    monkeypatch.setattr(
        "mmsearch.search.image_loader.SandboxedImageLoader._run_in_worker", fail_on_decode
    )


@pytest.mark.usefixtures("nothing_is_encoded")
def test_search_by_indexed_picture_needs_no_encoding_decoding_or_file(home, folder):
    path = sorted(folder.iterdir())[10]
    moved_folder = folder.with_name("away")
    with mmsearch.open_index(home=home) as index:
        result = index.query(SearchRequest(mmsearch.parse_query(images=[path]), 5))
        self_hit = result.hits[0]
        assert (self_hit.path, self_hit.score) == (path, pytest.approx(1.0, abs=TOLERANCE))
        assert set(result.devices) == {"vector_index"}
        folder.rename(moved_folder)
        try:
            assert index.similar(self_hit.id, 5) == list(result.hits)
        finally:
            moved_folder.rename(folder)


def test_search_by_changed_file_encodes_new_content(home, folder, tmp_path):
    one, other = sorted(folder.iterdir())[30:32]
    backup = copy_to(one, tmp_path)
    stat = one.stat()
    with mmsearch.open_index(home=home) as index:
        try:
            shutil.copy(other, one)
            assert index.similar(one, 1)[0].path == other
        finally:
            shutil.copy(backup, one)
            os.utime(one, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert index.similar(one, 1)[0].path == one


@pytest.mark.parametrize("image_id", [0, -1, 10**6, 2**70])
def test_similar_unknown_picture_id_raises_unknown_name_error(home, image_id):
    with (
        mmsearch.open_index(home=home) as index,
        pytest.raises(UnknownNameError, match=rf"^Index 'default' has no picture {image_id}\. Use"),
    ):
        index.similar(image_id)


# --- toy pictures ---


@pytest.fixture
def toys(tmp_path):
    target = tmp_path / "toys"
    target.mkdir()
    for number in range(30):
        write(target, b"%d.toy" % number, b"content %d" % number, 1 + number)
        if number % 3 == 0:
            write(target, b"%d.toy.txt" % number, b"boat number %d" % number, 1)
    return target


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "index")


def run(layout, toys, fusion="image"):
    with toy_indexer(layout, fusion=FusionSpec(fusion, 0.4)) as indexer:
        return indexer.run(IndexRequest(os.fsencode(toys), allow_empty=True))


def search_terms(engine, *terms, k=30):
    return engine.search(SearchRequest(Query(terms), k))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_search_by_picture_id_under_each_fusion_ignores_its_texts(layout, toys, tmp_path, fusion):
    run(layout, toys, fusion)
    encoder = ToyEncoder()
    with toy_engine(layout, encoder) as engine:
        for path in sorted(toys.glob("*.toy"))[:6]:
            expected = search_terms(engine, Term(image=copy_to(path, tmp_path / "copies")))
            encoded = encoder.encoded
            (image_id,) = [hit.id for hit in expected.hits if hit.path == path]
            assert_equal(search_terms(engine, Term(picture=image_id)), expected)
            assert_equal(search_terms(engine, Term(image=path)), expected)
            assert encoder.encoded == encoded


def test_search_by_id_of_removed_picture_raises_unknown_name_error(layout, toys):
    run(layout, toys)
    with toy_engine(layout) as engine:
        gone = search_terms(engine, Term(image=toys / "3.toy"), k=1).hits[0].id
        (toys / "3.toy").unlink()
        assert search_terms(engine, Term(picture=gone), k=1).hits[0].id == gone
    run(layout, toys)
    with (
        toy_engine(layout) as engine,
        pytest.raises(UnknownNameError, match=f"has no picture {gone}"),
    ):
        search_terms(engine, Term(picture=gone))


def test_search_by_picture_id_in_damaged_segment_raises_error(layout, toys):
    run(layout, toys)
    for segment in (layout.folder / "segments").iterdir():
        content = bytearray(segment.read_bytes())
        content[len(content) // 2] ^= 1
        segment.write_bytes(content)
    with toy_engine(layout) as engine, pytest.raises(DamagedFileError, match="checksum"):
        search_terms(engine, Term(picture=1))


def test_segment_rows_read_in_place_equal_whole_segment(layout, toys):
    run(layout, toys)
    with toy_indexer(layout) as indexer:
        segments = indexer.catalog.segments()
    for segment in segments:
        segment_data = read_segment(layout, segment)
        rows = read_image_vectors(layout, segment, segment_data.ids[::-1].tolist())
        np.testing.assert_array_equal(rows, segment_data.images[::-1])
        with pytest.raises(DamagedFileError, match="lacks a picture"):
            read_image_vectors(layout, segment, [10**6])
