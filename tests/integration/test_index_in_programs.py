"""The `Index` class in programs: shared by threads, in notebooks, with logging."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmsearch import Term, open_index
from mmsearch.core.errors import InvalidQueryError, UnknownIndexError
from mmsearch.core.filters import Filters

QUERIES = [
    "a windmill",
    "a dog",
    "boat + water",
    "2:tree -people",
    "a bird standing in water",
    "a red car",
    "mountains",
    "an old house",
]
THREADS = 8


@pytest.fixture
def index(photo_index):
    with open_index(home=photo_index) as index:
        yield index


def search_all(index):
    """Return ids and scores of every kind of call."""
    results = []
    for line in QUERIES:
        results.append([(hit.id, hit.score) for hit in index.search(line, 5)])
        filters = Filters(orientation="landscape")
        results.append([(hit.id, hit.score) for hit in index.search(line, 5, filters=filters)])
    best = index.search(QUERIES[0], 1)[0]
    results.append([(hit.id, hit.score) for hit in index.similar(best.id, 5)])
    results.append(index.embed([Term("a windmill")]).tobytes())
    results.append(index.picture(best.id))
    results.append(index.thumbnail(best, 64))
    results.append(index.status().pictures)
    return results


def test_index_shared_by_threads_gives_each_the_answers_of_one_thread(photo_index):
    with open_index(home=photo_index) as index:
        expected = search_all(index)
    with open_index(home=photo_index) as index, ThreadPoolExecutor(THREADS) as threads:
        runs = [threads.submit(search_all, index) for _ in range(THREADS)]
        assert all(run.result() == expected for run in runs)


def test_index_closed_by_one_thread_reopens_for_the_others(index):
    expected = [hit.id for hit in index.search("a windmill", 5)]
    stop = threading.Event()

    def close_often():
        while not stop.wait(0.01):
            index.close()

    with ThreadPoolExecutor(5) as threads:
        closer = threads.submit(close_often)
        try:
            searches = [
                threads.submit(
                    lambda: [[h.id for h in index.search("a windmill", 5)] for _ in range(5)]
                )
                for _ in range(4)
            ]
            assert all(ids == expected for search in searches for ids in search.result())
        finally:
            stop.set()
        closer.result()


def test_index_searched_while_a_thread_adds_pictures_answers_every_search(photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    files = sorted((photos / "photos").iterdir())[:24]
    for file in files[:8]:
        (folder / file.name).write_bytes(file.read_bytes())
    with open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(folder)
        sizes = []

        def search_until(stop):
            while not stop.is_set():
                sizes.append(len(index.search("a bird", 100, fold=False)))

        stop = threading.Event()
        with ThreadPoolExecutor(4) as threads:
            searches = [threads.submit(search_until, stop) for _ in range(4)]
            try:
                for file in files[8:]:
                    (folder / file.name).write_bytes(file.read_bytes())
                assert index.add_folder(folder).added == 16
            finally:
                stop.set()
            for search in searches:
                search.result()
        assert set(sizes) <= set(range(8, 25))
        assert len(index.search("a bird", 100, fold=False)) == 24


def test_repr_of_index_shows_name_pictures_and_model(index, tmp_path):
    assert repr(index) == f"<Index 'default' in {index.folder}: 212 pictures, starter>"
    with open_index("new", home=tmp_path) as empty:
        assert repr(empty) == f"<Index 'new' in {empty.folder}: no pictures yet>"


def test_search_unknown_mode_raises_invalid_query_error(index):
    with pytest.raises(InvalidQueryError, match="Unknown mode 'sound'"):
        index.search("a dog", mode="sound")


def test_status_of_unknown_index_raises_unknown_index_error(tmp_path):
    with open_index("missing", home=tmp_path) as index, pytest.raises(UnknownIndexError):
        index.status()


def test_search_result_in_notebook_shows_thumbnails_of_photographs(index):
    html = index.search("a windmill", 3)._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 3


def test_messages_of_index_reach_the_mmsearch_logger(photos, tmp_path, caplog):
    photo = min((photos / "photos").iterdir())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / photo.name).write_bytes(photo.read_bytes())
    with caplog.at_level(logging.INFO, "mmsearch"), open_index(home=tmp_path / "home") as index:
        index.add_folder(tmp_path / "photos")
    assert any("Using the built-in model 'starter'" in line for line in caplog.messages)


def test_add_folder_progress_true_shows_a_bar(photos, tmp_path, capsys):
    photo = min((photos / "photos").iterdir())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / photo.name).write_bytes(photo.read_bytes())
    with open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(tmp_path / "photos", progress=True)
    assert "encode" in capsys.readouterr().err


def test_thumbnails_of_one_picture_read_its_file_for_a_digest_once(index, monkeypatch):
    from mmsearch.search import image_loader

    hashed, hash_source_file = [], image_loader.hash_source_file

    def count(path):
        hashed.append(path)
        return hash_source_file(path)

    monkeypatch.setattr(image_loader, "hash_source_file", count)
    best = index.search("a windmill", 1)[0]
    assert index.thumbnail(best, 64) == index.thumbnail(best, 64)
    assert len(hashed) == 1
