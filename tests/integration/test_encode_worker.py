"""An encode worker of plain values, in another process."""

import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mmsearch
from mmsearch.core.errors import EncoderMismatchError, StateError, StorageError
from mmsearch.core.records import ScannedFile
from mmsearch.core.results import IndexRequest, TaskFailure
from mmsearch.core.settings import Settings
from mmsearch.core.types import Text
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_indexer
from mmsearch.indexing.encode import DecodeTask, EncodeTask, Shard, share_worker
from mmsearch.indexing.file_reader import FileReader, FileReaders
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment_with_metadata
from mmsearch.storage.stored_files import remove_orphans
from tests.toy_index import ToyEncoder, install_toys, toy_engine, toy_indexer

PHOTOS = sorted((Path(__file__).parents[1] / "photos/photos").glob("*.jpg"))[:5]
MAX_PICKLED_BYTES = 1000


def photo_shard(number=1):
    """Return a shard of photographs: some by their paths, some by their content."""
    contents = []
    for row, path in enumerate(PHOTOS):
        facts = path.stat()
        source = (
            DecodeTask(os.fsencode(path), facts.st_size, facts.st_mtime_ns)
            if row % 2
            else DecodeTask(content=path.read_bytes(), name=os.fsencode(path.name))
        )
        texts = (Text("caption", f"picture {row}", None, "sidecar"),) if row else ()
        contents.append(EncodeTask(bytes([row]) * 32, source, texts))
    return Shard(number, 100, tuple(contents))


def encode_elsewhere(pickled, shard):
    make_worker = pickle.loads(pickled)  # noqa: S301
    return os.getpid(), make_worker()(shard)


def encode_toys_elsewhere(pickled, shard):
    install_toys()
    return encode_elsewhere(pickled, shard)


def in_fresh_process(function, *arguments):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result(300)


def stored(layout, segment):
    """Return what a segment holds as plain values."""
    vectors, metadata = read_segment_with_metadata(layout, segment)
    texts = [(text.kinds, text.vectors.tolist()) for text in vectors.texts]
    return vectors.ids.tolist(), vectors.images, texts, metadata


def test_encode_worker_in_fresh_process_writes_the_vectors_of_the_local_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = IndexLayout(Path("index"))
    settings = replace(mmsearch.load_settings(), model="starter", device="cpu", workers=1)
    with (
        catalogs.open_write(layout, 0, create=True) as catalog,
        make_indexer(layout, catalog, settings, print, texts="sidecar") as indexer,
    ):
        pickled = pickle.dumps(indexer.make_worker)
        assert len(pickled) < MAX_PICKLED_BYTES
        process, there = in_fresh_process(encode_elsewhere, pickled, photo_shard())
        with share_worker(indexer.make_worker, indexer._shard_encoder(indexer.fusion)):
            here = indexer.make_worker()(photo_shard())
    assert process != os.getpid()
    assert there.failed == here.failed == {}
    assert there.pictures == here.pictures
    assert there.segment.file_ref.name != here.segment.file_ref.name
    for one, other in zip(stored(layout, there.segment), stored(layout, here.segment), strict=True):
        np.testing.assert_equal(one, other)
    # Either may be committed, and the other file is an orphan.
    assert remove_orphans(layout, {here.segment.file_ref.name}) == [there.segment.file_ref.name]


@pytest.fixture
def layout(tmp_path):
    return IndexLayout(tmp_path / "home" / "default")


@pytest.fixture
def toys(tmp_path):
    folder = tmp_path / "toys"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03d}.toy").write_text(f"toy {number}")
    return folder


def index(indexer, folder):
    return indexer.run(IndexRequest(os.fsencode(folder)))


def test_encode_worker_of_other_version_refuses_with_plain_error(layout, monkeypatch):
    with toy_indexer(layout) as indexer:
        make_worker = replace(indexer.make_worker, version="0.0.9")
        with pytest.raises(StateError, match=r"worker has mmsearch .* comes from mmsearch 0\.0\.9"):
            make_worker()


def test_encode_worker_with_other_weights_refuses_with_plain_error(layout):
    with toy_indexer(layout) as indexer:
        make_worker = replace(indexer.make_worker, fingerprint="0" * 16)
        with pytest.raises(EncoderMismatchError, match="'toy' of this worker has other weights"):
            make_worker()
        error = pickle.dumps(make_worker)
        with pytest.raises(EncoderMismatchError, match="other weights"):
            in_fresh_process(encode_toys_elsewhere, error, Shard(1, 1, ()))


def test_local_run_uses_the_encoder_of_the_indexer(layout, toys):
    encoder = ToyEncoder()
    with toy_indexer(layout, encoder) as indexer:
        index(indexer, toys)
        assert encoder.encoded == 100
        # After the run, another worker is made.
        assert indexer.make_worker() is not indexer.make_worker()


class SpawnedWorkers:
    """Executor that carries out every shard twice in other processes, and loses some shards."""

    def __init__(self, lost=()):
        self.lost = lost
        self.segments = []

    def run(self, make_worker, tasks):
        pickled = pickle.dumps(make_worker)
        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
            for position, task in enumerate(tasks):
                runs = [pool.submit(encode_toys_elsewhere, pickled, task) for _ in range(2)]
                (_, first), (_, second) = [run.result(300) for run in runs]
                self.segments += [first.segment, second.segment]
                failure = TaskFailure("the worker crashed", crashed=True)
                yield task, failure if position in self.lost else second

    def close(self):
        """Do nothing."""


def test_run_with_shards_carried_out_twice_by_other_processes_indexes_each_picture_once(
    layout, toys
):
    executor = SpawnedWorkers()
    with toy_indexer(layout) as indexer:
        report = index(replace(indexer, shard_executor=executor), toys)
        assert (report.added, report.encoded, report.failed) == (100, 100, ())
        committed = {segment.file_ref.name for segment in indexer.catalog.segments()}
        written = {segment.file_ref.name for segment in executor.segments}
        assert len(written) == 2 * len(committed)
        assert index(indexer, toys).unchanged == 100
        assert {name for name, _ in layout.files() if name in written} == committed
    with toy_engine(layout) as engine:
        hits = engine.search_text("anything", 200).hits
        assert len({hit.path for hit in hits}) == len(hits) == 100
        assert engine.search_text("toy 7", 1).hits[0].path.name == "007.toy"


class PickledReaders:
    """Executor that makes its worker from the pickled factory, and loses some tasks."""

    def __init__(self, lost=()):
        self.lost = lost
        self.sizes = []

    def run(self, make_worker, tasks):
        worker = pickle.loads(pickle.dumps(make_worker))()  # noqa: S301
        for position, task in enumerate(tasks):
            self.sizes.append(len(task))
            failure = TaskFailure("the worker crashed", crashed=True)
            yield task, failure if position in self.lost else worker(task)


def test_run_with_remote_readers_gives_the_same_and_reads_batches(layout, toys):
    (toys / "copy.toy").write_text("toy 7")
    with toy_indexer(layout) as indexer:
        executor = PickledReaders()
        readers = FileReaders(executor, indexer.make_decoder, batch_size=30)
        report = index(replace(indexer, readers=readers), toys)
        assert report.added + report.copied == 101
        assert (report.encoded, report.failed) == (100, ())
        assert executor.sizes == [30, 30, 30, 11]
        assert index(indexer, toys).unchanged == 101


def test_run_with_a_lost_batch_lists_its_files_as_failed_and_the_next_run_reads_them(layout, toys):
    with toy_indexer(layout) as indexer:
        readers = FileReaders(PickledReaders(lost=[1]), indexer.make_decoder, batch_size=30)
        report = index(replace(indexer, readers=readers), toys)
        assert (report.added, len(report.failed)) == (70, 30)
        assert {file.reason for file in report.failed} == {"the worker crashed"}
        report = index(indexer, toys)
        assert (report.encoded, report.unchanged, report.failed) == (30, 70, ())


def test_time_limits_of_tasks_allow_for_all_that_they_contain(layout, toys):
    with toy_indexer(layout) as indexer:
        worker = replace(indexer.make_worker, settings=Settings(decode_timeout_s=120))
        texts = indexer.make_text_collector(IndexRequest(os.fsencode(toys)))
    shard = photo_shard()
    assert worker.time_limit_s(shard) == 1200 + 12 * len(PHOTOS)
    # A film of two hours may be one content of many items.
    assert worker.time_limit_s(replace(shard, num_ids=7200)) == 1200 + 12 * 7200
    reader = FileReader(os.fsencode(toys), texts)
    files = [ScannedFile(b"a", 1_000_000_000, 0), ScannedFile(b"b", 0, 0)]
    assert reader.time_limit_s(files) == 600 + 2 * 10 + 1000


def test_reader_that_does_not_see_the_folder_says_so(layout, toys):
    with toy_indexer(layout) as indexer:
        readers = FileReaders(PickledReaders(), indexer.make_decoder)
        texts = indexer.make_text_collector(IndexRequest(os.fsencode(toys)))
        make_reader = FileReader.remote(b"/not/here", texts, readers.make_decoder)
        with pytest.raises(StorageError, match="A worker does not see the folder /not/here"):
            make_reader()


def test_encode_worker_that_does_not_see_the_folder_refuses_and_writes_nothing(layout, tmp_path):
    with toy_indexer(layout) as indexer:
        make_worker = replace(indexer.make_worker, folder_mark=".shared-1")
        with pytest.raises(StorageError, match="does not see the folder of the index"):
            make_worker()
        (layout.folder / ".shared-1").touch()
        assert make_worker() is not None
        other = tmp_path / "other"
        with pytest.raises(StorageError, match="does not see the folder of the index"):
            replace(make_worker, folder=str(other))()
        assert not other.exists()


def test_run_with_a_lost_shard_lists_its_files_as_failed_and_the_next_run_indexes_them(
    layout, toys
):
    with toy_indexer(layout) as indexer:
        report = index(replace(indexer, shard_executor=SpawnedWorkers(lost=[1])), toys)
        lost = len(report.failed)
        assert 0 < lost < 100
        assert report.added == report.encoded == 100 - lost
        assert {file.reason for file in report.failed} == {"the worker crashed"}
        with toy_engine(layout) as engine:
            assert len(engine.search_text("anything", 200).hits) == 100 - lost
        report = index(indexer, toys)
        assert (report.encoded, report.unchanged, report.failed) == (lost, 100 - lost, ())
