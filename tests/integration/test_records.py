"""Pictures of a program: added, replaced, updated, deleted and found by ids of its own."""

import gc
import io
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmsearch
from mmsearch.core.errors import GoneError, InvalidQueryError, UnknownNameError, UsageError
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.indexing.indexer import Indexer

COLOURS = {"red": (200, 20, 30), "green": (20, 160, 40), "blue": (30, 40, 200)}


def picture(colour, size=(64, 48)):
    return Image.new("RGB", size, colour)


def png(colour):
    buffer = io.BytesIO()
    picture(colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def filled(tmp_path_factory, environment):
    """Home of an index with three records."""
    home = tmp_path_factory.mktemp("records")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patched.setenv(name, environment[name])
        with mmsearch.open_index(home=home, model="starter") as index:
            report = index.add(
                (picture(colour) for colour in COLOURS.values()),
                ids=(f"sku-{name}" for name in COLOURS),
                texts=[{"title": f"{name} paint", "keywords": ["paint", name]} for name in COLOURS],
                metadata=[
                    {"price": price, "shop": {"city": "Rome"}, "sizes": ["S", str(price)]}
                    for price in (5, 50, 500)
                ],
            )
        assert report.added == 3
    return home


@pytest.fixture
def index(filled, tmp_path, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    shutil.copytree(filled, tmp_path / "home")
    with mmsearch.open_index(home=tmp_path / "home") as index:
        yield index


def keys(hits):
    return {hit.key for hit in hits}


def test_added_pictures_are_found_with_their_keys_and_metadata(index):
    assert len(index) == 3
    assert bool(index)
    (hit,) = index.search("green paint", k=1)
    assert (hit.key, hit.metadata["price"]) == ("sku-green", 50)
    assert hit.metadata["shop"] == {"city": "Rome"}
    assert {text.text for text in hit.texts} == {"green paint", "paint; green"}
    assert hit.to_dict()["key"] == "sku-green"
    (same,) = index.similar(picture(COLOURS["blue"]), k=1)
    assert same.key == "sku-blue"
    assert index.thumbnail(same).startswith(b"\xff\xd8")
    assert [item.key for item in index] == ["sku-red", "sku-green", "sku-blue"]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({"metadata.price": {"lt": 100}}, "red green"),
        ({"metadata.price": {"gte": 50, "lt": 500}}, "green"),
        ({"metadata.price": 5}, "red"),
        ({"metadata.price": [5, 500]}, "red blue"),
        ({"metadata.price": "5"}, ""),
        ({"metadata.price": {"ne": 5}}, "green blue"),
        ({"metadata.sizes": {"contains": "50"}}, "green"),
        ({"metadata.nothing": 5}, ""),
        ({"metadata.price": {"lt": 100}, "where": "metadata.price > 5"}, "green"),
        ({"where": "100 > metadata.price and 's' in metadata.sizes"}, "red green"),
        ({"where": "metadata['price'] * 2 == 100"}, "green"),
        ({"where": "metadata.price in (5, 'x')"}, "red"),
        ({"where": "metadata.nothing == None and metadata.price != None"}, " ".join(COLOURS)),
        ({"where": "not metadata.price < 100"}, "blue"),
    ],
)
def test_filters_on_metadata_are_exact(index, filters, names):
    found = index.search("paint", k=9, filters=filters)
    assert keys(found) == {f"sku-{name}" for name in names.split()}


@pytest.mark.parametrize(
    "filters", [{"metadata.price": {"near": 3}}, {"metadata.price": None}, {"where": "meta.x == 1"}]
)
def test_filters_on_metadata_that_cannot_be_read_are_refused(index, filters):
    with pytest.raises(InvalidQueryError):
        index.search("paint", filters=filters)


def test_same_ids_replace_pictures_and_same_content_keeps_hit_ids(index):
    before = {item.key: item.id for item in index}
    report = index.add(
        [png(COLOURS["red"]), png((250, 250, 0))],
        ids=["sku-red", "sku-blue"],
        texts=["still red", None],
        metadata=[{"price": 6}, None],
    )
    assert (report.added, report.changed + report.unchanged) == (0, 2)
    after = {item.key: item.id for item in index}
    assert len(index) == 3
    assert after["sku-blue"] != before["sku-blue"]
    assert after["sku-green"] == before["sku-green"]
    assert index.get("sku-red").metadata == {"price": 6}
    assert [text.text for text in index.get("sku-red").texts] == ["still red"]
    # The pixels are the same, but the file is another one.
    assert index.add([png(COLOURS["red"])], ids=["sku-red"]).unchanged == 1


def test_update_changes_texts_or_metadata_only(index):
    before = index.get("sku-green")
    index.update("sku-green", metadata={"price": 1})
    assert index.get("sku-green").texts == before.texts
    index.update(["sku-green", "sku-red"], texts=["grass", {"title": "rose"}])
    green = index.get("sku-green")
    assert (green.id, green.metadata, green.texts[0].text) == (before.id, {"price": 1}, "grass")
    assert index.search("grass", k=1, mode="text")[0].key == "sku-green"
    with pytest.raises(UnknownNameError, match="no record 'sku-none'"):
        index.update(["sku-red", "sku-none"], texts=["a", "b"])
    assert index.get("sku-red").texts[0].text == "rose"


def test_deleted_pictures_are_gone_and_come_back(index):
    assert index.delete(["sku-red", "sku-none"]) == 1
    assert "sku-red" not in index
    assert index.get("sku-red") is None
    assert (len(index), keys(index.search("paint", k=9))) == (2, {"sku-green", "sku-blue"})
    index.add([picture(COLOURS["red"])], ids=["sku-red"])
    assert "sku-red" in index
    assert index.check().verdict == "sound"


def test_all_kinds_of_pictures_are_taken(index, photos, tmp_path):
    path = next(iter(sorted((photos / "photos").iterdir())))
    array = np.full((40, 60, 3), 90, np.uint8)
    report = index.add([path, str(path), path.read_bytes(), array, picture("white")])
    # Without ids, equal contents are one picture.
    assert report.added == 3
    assert len(index) == 6
    missing = index.add([tmp_path / "missing.jpg", b"no picture"], ids=["a", "b"])
    assert {Path(str(f.path, "utf-8")).name: bool(f.reason) for f in missing.failed} == {
        "a": True,
        "b": True,
    }
    assert "a" not in index


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": b"abc"}, "images must be a list"),
        ({"images": [b"abc"], "ids": "abc"}, "ids must be a list"),
        ({"images": [b"abc"], "ids": [1]}, "An id must be a string, got 1"),
        ({"images": [b"abc"], "ids": [""]}, "An id must have 1 to"),
        ({"images": [b"a", b"b"], "ids": ["a", "a"]}, "'a' is given twice"),
        ({"images": [b"a", b"b"], "ids": ["a"]}, "fewer ids"),
        ({"images": [b"a"], "ids": ["a", "b"]}, "fewer images"),
        ({"images": [5.5]}, "A picture must be"),
        ({"images": [b"a"], "texts": [5]}, "The texts of a picture must be"),
        ({"images": [b"a"], "metadata": [{"a": object()}]}, "JSON does not have"),
        ({"images": [b"a"], "metadata": [5]}, "The metadata must be a mapping"),
        ({"images": [b"a"], "metadata": [{"a": "\ud800"}]}, "The metadata has a character"),
        ({"images": [b"a"], "texts": ["a\ud800"]}, "The texts have a character"),
    ],
)
def test_wrong_inputs_are_refused_with_a_sentence(index, arguments, message):
    with pytest.raises(UsageError, match=message):
        index.add(**arguments)
    assert len(index) == 3


def test_unreadable_replacement_keeps_the_former_picture(index):
    before = index.get("sku-red")
    report = index.add([b"no picture", picture("white")], ids=["sku-red", "sku-white"])
    assert ([file.path for file in report.failed], report.added) == ([b"sku-red"], 1)
    assert index.get("sku-red") == before
    assert len(index) == 4


def test_originals_are_kept_on_request(index):
    content = png((1, 2, 3))
    index.add([content], ids=["kept"], keep_originals=True)
    assert index.read_original("kept") == content
    with pytest.raises(GoneError, match="keeps no original"):
        index.read_original("sku-red")


def test_eight_threads_search_and_read_while_one_adds(index):
    def search(_):
        for _ in range(5):
            assert "sku-green" in keys(index.search("green paint", k=50))
            assert index.get("sku-green") is not None

    with ThreadPoolExecutor(8) as pool:
        searches = [pool.submit(search, number) for number in range(8)]
        for number in range(2):
            index.add([picture((number, 9, 9))], ids=[f"new-{number}"])
            assert f"new-{number}" in index
        for done in searches:
            done.result()


def decoder_ids(index):
    decoders = index._session._warm_parts._decoders
    pools = [decoders._small, decoders._large]
    return [
        pid for pool in pools if pool for pid in pool._pool._pool_manager.worker_manager.workers
    ]


def test_single_additions_reuse_model_and_decoder(index):
    index.add([picture((1, 2, 3))], ids=["one"])
    (decoder,), encoder = decoder_ids(index), index._session._warm_parts._encoder
    index.add([picture((1, 2, 4))], ids=["two"])
    assert decoder_ids(index) == [decoder]
    assert index._session._warm_parts._encoder is encoder
    index.release()
    assert index._session._warm_parts._decoders is None
    index.add([picture((1, 2, 5))], ids=["three"])
    assert len(index) == 6


def test_new_index_keeps_its_model_for_the_next_addition(tmp_path, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    with mmsearch.open_index(home=tmp_path / "new", model="starter") as index:
        index.add([picture((1, 2, 3))], ids=["one"])
        encoder = index._session._warm_parts._encoder
        assert encoder is not None
        index.add([picture((1, 2, 4))], ids=["two"])
        assert index._session._warm_parts._encoder is encoder


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_idle_decoder_is_replaced(index):
    index.add([picture((1, 2, 3))], ids=["one"])
    pool = index._session._warm_parts._decoders._small._pool
    os.kill(decoder_ids(index)[0], 9)
    while pool.active:
        time.sleep(0.01)
    assert index.add([picture((1, 2, 4))], ids=["two"]).added == 1


def test_broken_picture_in_the_middle_of_a_batch_leaves_the_others(index):
    pictures = [picture((1, 2, 3)), b"broken", picture((1, 2, 4))]
    report = index.add(iter(pictures), ids=iter(["one", "broken", "two"]))
    assert (report.added, [file.path for file in report.failed]) == (2, [b"broken"])
    assert ("one" in index, "broken" in index, "two" in index) == (True, False, True)


def test_threads_that_add_at_once_take_turns(index):
    def add(number):
        return index.add([picture((number, 7, 7))], ids=[f"new-{number}"]).added

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(add, range(16))) == [1] * 16
    assert len(index) == 19


def test_writes_of_another_index_object_are_seen_by_a_warm_one(index):
    index.add([picture((1, 2, 3))], ids=["one"])
    before = index._session._warm_parts._encoder
    with mmsearch.open_index(home=index.folder.parent) as other:
        other.add([picture((1, 2, 4))], ids=["two"])
        other.delete("one")
    assert index._session._warm_parts._encoder is before
    assert not index.add([picture((1, 2, 3))], ids=["one"]).failed
    assert {"one", "two"} <= {item.key for item in index}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_forked_process_adds_and_decodes_with_processes_of_its_own(index):
    index.add([picture((1, 2, 3))], ids=["one"])
    index.similar(picture((1, 2, 3)))

    def add_in_child():
        index.add([picture((1, 2, 4))], ids=["two"], wait_s=30)
        assert index.similar(picture((1, 2, 4)))[0].key == "two"
        index.close()

    child = multiprocessing.get_context("fork").Process(target=add_in_child)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    index.add([picture((1, 2, 5))], ids=["three"])
    assert {"one", "two", "three"} <= {item.key for item in index}


def test_idle_parts_are_released(index):
    index.add([picture((1, 2, 3))], ids=["one"])
    parts = index._session._warm_parts
    parts._idle_timeout_s = 0.01
    index.add([picture((1, 2, 4))], ids=["two"])
    parts._timer.join(30)
    assert (parts._encoder, parts._decoders) == (None, None)
    index.add([picture((1, 2, 5))], ids=["three"])
    assert len(index) == 6


def test_program_that_does_not_close_the_index_ends(index):
    script = (
        "import sys, mmsearch; from PIL import Image;"
        "index = mmsearch.open_index(home=sys.argv[1]);"
        "index.add([Image.new('RGB', (9, 9))], ids=['x'])"
    )
    arguments = [sys.executable, "-c", script, str(index.folder.parent)]
    subprocess.run(arguments, check=True, timeout=60)
    assert "x" in index


def test_small_additions_and_changes_do_not_rebuild_the_index_and_are_found(index):
    def num_tail_segments():
        with index._session.catalog() as catalog, catalog.snapshot() as snapshot:
            return len(snapshot.unindexed_segments)

    index.add([picture((n, 200, n)) for n in range(40)], ids=[f"many-{n}" for n in range(40)])
    assert num_tail_segments() == 0
    for number in range(4):
        index.add([picture((9, 9, number))], ids=[f"new-{number}"])
        (hit,) = index.similar(picture((9, 9, number)), k=1)
        assert hit.key == f"new-{number}"
    assert num_tail_segments() == 4
    index.add([picture((9, 9, 4))], ids=["new-4"])
    assert num_tail_segments() == 0
    for number in range(3):
        index.update(f"many-{number}", texts=f"drawing number{number}")
        assert index.search(f"number{number}", k=1, mode="text")[0].key == f"many-{number}"
    assert num_tail_segments() == 3
    assert index.check().verdict == "sound"


def test_deletion_removes_the_original_of_the_last_record_with_a_content(index):
    index.add([png((1, 2, 3))] * 2, ids=["one", "two"], keep_originals=True)
    index.delete("one")
    assert index.read_original("two") == png((1, 2, 3))
    item = index.get("two")
    index.delete("two")
    assert originals(index) == []
    with pytest.raises(GoneError):
        index.read_original(item.id)
    index.add([png((1, 2, 3))], ids=["one"], keep_originals=True)
    assert index.read_original("one") == png((1, 2, 3))


def originals(index):
    return [path for path in (index.folder / "originals").rglob("*") if path.is_file()]


def test_replacement_removes_the_original_that_no_other_record_has(index):
    index.add([png((1, 2, 3))] * 2, ids=["one", "two"], keep_originals=True)
    index.add([png((1, 2, 4))], ids=["one"], keep_originals=True)
    assert index.read_original("two") == png((1, 2, 3))
    assert len(originals(index)) == 2
    report = index.add([b"nothing"], ids=["one"], keep_originals=True)
    assert len(report.failed) == 1
    assert index.read_original("one") == png((1, 2, 4))
    index.add([png((1, 2, 5))], ids=["two"])
    assert [path.read_bytes() for path in originals(index)] == [png((1, 2, 4))]
    index.add([png((1, 2, 6))], ids=["one"])
    assert originals(index) == []


def test_unreadable_content_leaves_no_original(index):
    assert len(index.add([b"nothing"], ids=["one"], keep_originals=True).failed) == 1
    assert originals(index) == []


def test_damaged_original_is_not_returned(index):
    index.add([png((1, 2, 3))], ids=["one"], keep_originals=True)
    originals(index)[0].write_bytes(b"")
    with pytest.raises(GoneError):
        index.read_original("one")


@pytest.fixture
def same_content(index):
    """The index with three records of one content, and a price each."""
    index.add(
        [png((9, 8, 7))] * 3,
        ids=["same-b", "same-a", "same-c"],
        texts=["paint"] * 3,
        metadata=[{"price": 7, "of": "b"}, {"price": 70, "of": "a"}, None],
    )
    return index


def test_hit_has_the_keys_of_all_records_with_its_content(same_content):
    (hit,) = same_content.similar(png((9, 8, 7)), k=1)
    assert (hit.key, hit.keys, hit.metadata["of"]) == (
        "same-a",
        ("same-a", "same-b", "same-c"),
        "a",
    )
    assert hit.to_dict()["keys"] == ["same-a", "same-b", "same-c"]
    assert mmsearch.Hit.from_dict(hit.to_dict()).keys == hit.keys
    item = same_content.get("same-b")
    assert (item.key, item.keys, item.id) == ("same-b", ("same-b", "same-a", "same-c"), hit.id)
    assert same_content.get("sku-red").keys == ("sku-red",)
    same_content.delete("same-a")
    (hit,) = same_content.similar(png((9, 8, 7)), k=1)
    assert (hit.key, hit.keys) == ("same-b", ("same-b", "same-c"))


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ("metadata.price < 10", "b a c"),
        ("metadata.price > 10 and metadata.price < 100", "a b c"),
        ("metadata.of == 'b' and metadata.price == 70", ""),
        ("metadata.of in ('b', 'x') and width > 1", "b a c"),
        ("metadata.price * 10 == 70", "b a c"),
        ("metadata.price > 5 and not metadata.price > 50", "b a c"),
        ("metadata.of == None and format == 'PNG' and width == 64", "c a b"),
    ],
)
def test_hit_shows_the_record_that_passes_the_filter(same_content, where, keys):
    item_id = same_content.get("same-a").id
    for found in (
        same_content.search("paint", k=9, filters={"where": where}),
        same_content.list_items(filters={"where": where}),
        same_content.search_many(["paint"], k=9, filters={"where": where})[0].hits,
    ):
        hits = [hit for hit in found if hit.id == item_id]
        assert [list(hit.keys) for hit in hits] == [[f"same-{n}" for n in keys.split()]] * bool(
            keys
        )
        for hit in hits:
            stored = same_content.get(hit.keys[0])
            assert (hit.key, hit.metadata) == (stored.key, stored.metadata)


def test_file_with_the_content_of_records_is_opened_and_shows_the_record_of_a_filter(
    same_content, tmp_path
):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/x.png").write_bytes(png((9, 8, 7)))
    same_content.add_folder(tmp_path / "photos")
    (hit,) = same_content.similar(png((9, 8, 7)), k=1)
    assert (hit.key, hit.keys) == ("x.png", ("same-a", "same-b", "same-c"))
    hits = same_content.search("paint", k=1, filters={"metadata.of": "b"})
    assert (hits[0].key, hits[0].keys) == ("same-b", ("same-b", "same-a", "same-c"))
    assert hits[0].path == tmp_path / "photos/x.png"
    assert hits[0].metadata == {"price": 7, "of": "b"}


def test_program_keeps_products_while_eight_threads_search(index):
    """Each write of a program is found at once, and the index has what the program expects."""
    count, stop = 240, threading.Event()
    index.delete([f"sku-{name}" for name in COLOURS])
    expected = {}

    def content(number, version=0):
        pixels = np.random.default_rng([number, version]).integers(0, 255, (6, 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((48, 36)).save(buffer, "PNG")
        return buffer.getvalue()

    def columns(numbers, version):
        keys = [f"product/{number}" for number in numbers]
        texts = [f"product number{number} edition{version}" for number in numbers]
        metadata = [{"number": number, "version": version} for number in numbers]
        expected.update(zip(keys, zip(texts, metadata, strict=True), strict=True))
        return {"ids": iter(keys), "texts": texts, "metadata": metadata}

    def find(number, version):
        hits = index.search(f"number{number} edition{version}", k=3, mode="text")
        return [hit.metadata for hit in hits if hit.key == f"product/{number}"]

    def keep_searching(thread):
        searches = 0
        while not stop.is_set():
            filters = {"metadata.number": {"lt": thread * 30 + 30}}
            hits = index.search("a picture", k=20, filters=filters)
            assert all(hit.metadata["number"] < thread * 30 + 30 for hit in hits)
            searches += 1
        return searches

    numbers = range(count)
    assert index.add(map(content, numbers), **columns(numbers, 0)).added == count
    with ThreadPoolExecutor(8) as pool:
        searches = [pool.submit(keep_searching, thread) for thread in range(8)]
        try:
            for first in range(0, 48, 16):
                index.update(**columns(range(first, first + 16), 1))
                assert find(first, 1) == [{"number": first, "version": 1}]
            for first in range(48, 96, 16):
                keys = [f"product/{number}" for number in range(first, first + 16)]
                assert index.delete(keys) == 16
                assert find(first, 0) == []
                for key in keys:
                    del expected[key]
            for first in range(96, 128, 16):
                replaced = range(first, first + 16)
                report = index.add([content(n, 2) for n in replaced], **columns(replaced, 2))
                assert report.changed == 16
                assert index.similar(content(first, 2), k=1)[0].key == f"product/{first}"
                assert find(first, 2) == [{"number": first, "version": 2}]
        finally:
            stop.set()
        assert all(search.result() for search in searches)
    assert {item.key: (item.texts[0].text, item.metadata) for item in index} == expected
    assert len(index) == len(expected) == count - 48
    assert index.check().verdict == "sound"


def test_memory_of_an_addition_is_free_when_the_index_is_closed(index, tmp_path):
    def list_parts():
        parts = (Indexer, TwoTowerEncoder)
        # `isinstance` reads attributes of objects, of which some warn.
        return {id(part) for part in gc.get_objects() if issubclass(type(part), parts)}

    gc.collect()
    before = list_parts()
    gc.disable()
    try:
        with mmsearch.open_index(home=tmp_path / "new", model="starter") as new:
            new.add([picture((n, 1, 1)) for n in range(6)])
            new.add([picture((9, 9, 9))])
            assert list_parts() > before
        assert list_parts() == before
    finally:
        gc.enable()
