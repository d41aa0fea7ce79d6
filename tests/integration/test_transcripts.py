"""Transcripts of films of toys: commits window by window, interruptions, and other models."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import mmsearch
from mmsearch.core.derived import DerivedState, SoundWindow
from mmsearch.core.errors import DecodeError, UsageError
from mmsearch.core.query import TextTerm
from mmsearch.core.speech import SoundBlock
from mmsearch.core.types import Text
from mmsearch.executors import processes, threads
from mmsearch.factories import catalogs
from mmsearch.indexing import enrich as enriching
from mmsearch.indexing.compaction import merge_derived
from mmsearch.indexing.enrich import EnrichJob, enrich
from mmsearch.indexing.sound_tracks import SOUND_PAGE_SIZE, SoundReaderFactory, read_sounds
from mmsearch.storage.derived import read_derived
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import remove_orphans
from tests.integration.test_indexer_law import write
from tests.integration.test_moments import assert_sound, film, run

LONG, SHORT = 9, 2
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ToyTranscriber:
    """Says the number of each second of a film of toys, in windows of two seconds."""

    word: str = "second"
    bad_ms: int = -1
    hanging_ms: int = -1

    def __call__(self):
        return self

    def read(self, blocks, request):
        texts = []
        for block in blocks:
            if len(texts) == 2:
                return SoundWindow(tuple(texts), block.start_ms, "en")
            if block.start_ms == self.bad_ms:
                raise DecodeError("it cannot be heard")
            while block.start_ms == self.hanging_ms:
                time.sleep(1)
            words = f"{self.word} {block.start_ms // 1000}"
            times = block.start_ms, block.start_ms + 800
            texts.append(Text("transcript", words, "en", "speech", None, 0.9, *times))
        return SoundWindow(tuple(texts), None, "en")


def open_toy_sound(file, from_ms):
    """Yield a block for each moment of a film of toys."""
    for number, _ in enumerate(file.read().splitlines()[1:]):
        if 1000 * number >= from_ms:
            yield SoundBlock(1000 * number, ())


@pytest.fixture
def toys(tmp_path):
    """Layout of an index of a picture and two films."""
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, b"1.toy", b"picture", 1)
    write(folder, b"long.film", film("long", LONG), 41)
    write(folder, b"short.film", film("short", SHORT), 42)
    layout = IndexLayout(tmp_path / "home" / "index")
    run(layout, folder)
    return layout


def transcribe(layout, reader=None, made_by="s-1", progress=lambda state: None, executor=None, **o):
    job = EnrichJob("speech", made_by, frozenset({"video"}), SOUND_PAGE_SIZE, **o)
    factory = SoundReaderFactory(reader or ToyTranscriber(), open_toy_sound)
    executor = executor or threads.build(1)
    try:
        with catalogs.open_write(layout, 0, create=False) as catalog:
            remove_orphans(layout, catalog.referenced_files())
            make_texts = read_sounds(executor, factory, lambda *source: b"", made_by)
            return enrich(layout, catalog, job, make_texts, progress)
    finally:
        executor.close()


def spoken(layout):
    """Return what is said in each moment of the long film."""
    with catalogs.open_read(layout) as catalog:
        return [
            [text.text for text in item.picture.texts if text.kind == "transcript"]
            for item in catalog.list_live_pictures(0, 100)
            if item.path.endswith(b"long.film")
        ]


def states(layout):
    with catalogs.open_read(layout) as catalog:
        made, _ = catalog.derived.list_texts(0, 100)
    return sorted((one.state, one.upto_ms) for one in made)


def numbers(count, word="second"):
    return [[f"{word} {number}"] for number in range(count)]


def test_every_moment_has_what_is_said_in_it(toys):
    stats = transcribe(toys)
    assert (stats.done, stats.texts, stats.failed, stats.notes) == (2, LONG + SHORT, [], [])
    assert spoken(toys) == numbers(LONG)
    with catalogs.open_read(toys) as catalog, catalog.snapshot() as snapshot:
        assert len(snapshot.match([TextTerm("second")], 50, None).ids) == LONG + SHORT
    assert transcribe(toys).done == 0


class StoppedError(Exception):
    pass


def stop_after(windows):
    """Return a function that stops the work after some windows; it is called once before them."""
    remaining = iter(range(windows))

    def progress(state):
        if next(remaining, None) is None:
            raise StoppedError

    return progress


def test_stopped_work_goes_on_at_its_last_window(toys):
    with pytest.raises(StoppedError):
        # The first window of both films, then the second of the long one.
        transcribe(toys, progress=stop_after(4))
    assert states(toys) == [(DerivedState.DONE, None), (DerivedState.PARTIAL, 4000)]
    assert spoken(toys) == [*numbers(4), *[[]] * (LONG - 4)]
    stats = transcribe(toys, ToyTranscriber("later"))
    assert (stats.done, stats.texts) == (1, LONG - 4)
    assert spoken(toys) == [*numbers(4), *numbers(LONG, "later")[4:]]
    assert states(toys) == [(DerivedState.DONE, None)] * 2


def test_each_window_is_a_file_of_which_a_lost_catalog_gets_all_texts(toys):
    transcribe(toys)
    with catalogs.open_write(toys, 0, create=False) as catalog:
        files = catalog.derived.files()
        assert [one.from_ms for file in files for one in read_derived(toys, file.file_ref)] == [
            *(0, 0, 2000, 4000, 6000, 8000)
        ]
        catalog.derived.remove("speech", None)
        for file in files:
            catalog.derived.restore(file, list(read_derived(toys, file.file_ref)))
    assert spoken(toys) == numbers(LONG)
    with catalogs.open_write(toys, 0, create=False) as catalog:
        merge_derived(toys, catalog)
        assert len(catalog.derived.files()) == 1
    assert spoken(toys) == numbers(LONG)


def test_other_model_replaces_texts_window_by_window(toys):
    transcribe(toys)
    with pytest.raises(StoppedError):
        transcribe(toys, ToyTranscriber("new"), "s-2", stop_after(4))
    assert spoken(toys) == [*numbers(4, "new"), *numbers(LONG)[4:]]
    transcribe(toys, ToyTranscriber("new"), "s-2")
    assert spoken(toys) == numbers(LONG, "new")


def test_window_that_cannot_be_read_costs_what_follows_it(toys):
    stats = transcribe(toys, ToyTranscriber(bad_ms=5000))
    assert [file.reason for file in stats.failed] == ["it cannot be heard"]
    assert spoken(toys) == [*numbers(4), *[[]] * (LONG - 4)]
    assert transcribe(toys).done == 0
    stats = transcribe(toys, ToyTranscriber("later"), retry_failed=True)
    assert (stats.done, stats.failed) == (1, [])
    assert spoken(toys) == [*numbers(4), *numbers(LONG, "later")[4:]]


def test_endless_window_is_stopped(toys):
    executor = processes.build(2, 3.0)
    stats = transcribe(toys, ToyTranscriber(hanging_ms=5000), executor=executor)
    assert [file.reason for file in stats.failed] == ["decoding took longer than 3 seconds"]
    assert stats.done == 1


def test_long_work_on_a_page_is_committed_in_between(toys, monkeypatch):
    monkeypatch.setattr(enriching, "COMMIT_S", -1.0)
    with pytest.raises(StoppedError):
        transcribe(toys, progress=stop_after(3))
    assert (DerivedState.DONE, None) in states(toys)


@pytest.mark.parametrize("arguments", [{"language": "de"}, {"enrichers": "ocr", "language": "de"}])
def test_language_without_speech_is_refused(tmp_path, arguments):
    with (
        mmsearch.open_index(home=tmp_path) as index,
        pytest.raises(UsageError, match="The language is for speech"),
    ):
        index.describe(**arguments)


WORK = """
import os, sys
from pathlib import Path
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_transcripts import transcribe
transcribe(IndexLayout(Path(os.fsdecode(sys.argv[1]))))
"""


@pytest.mark.parametrize("point", ["file_renamed", "transaction_committed"])
def test_killed_work_goes_on_at_its_last_window(toys, point):
    """Other files are renamed, too, so only whole windows are known, not how many."""
    killed = subprocess.run(
        [sys.executable, "-c", WORK, toys.folder],
        env=os.environ | {"MMSEARCH_FAULT": f"{point}:3"},
        cwd=ROOT,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    kept = sum(map(len, spoken(toys)))
    assert kept in (2, 4, 6)
    transcribe(toys, ToyTranscriber("later"))
    assert spoken(toys) == [*numbers(kept), *numbers(LONG, "later")[kept:]]
    assert_sound(toys, 3)
