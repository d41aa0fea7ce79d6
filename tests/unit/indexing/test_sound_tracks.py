"""Texts of sound tracks: which item has them, and what is read of which content."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.derived import DerivedState, PendingContent, SoundRequest, SoundWindow
from mmsearch.core.errors import DecodeError
from mmsearch.core.records import StoredPicture
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import WHOLE, ItemLocator, Picture, Text
from mmsearch.indexing import sound_tracks
from mmsearch.indexing.sound_tracks import SoundReaderFactory, assign_to_items, read_sounds


def said(start_ms, end_ms, **values):
    return Text("transcript", "words", "en", "speech", None, 0.9, start_ms, end_ms, **values)


SHOTS = [ItemLocator(n, 10_000 * n, 10_000 * n + 10_000) for n in range(3)]


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "part"),
    [
        (0, 1000, 0),
        (9_000, 12_000, 1),
        (8_000, 11_000, 0),
        (9_000, 11_000, 0),
        (5_000, 29_000, 1),
        (40_000, 41_000, 2),
        (10_000, 10_000, 1),
    ],
)
def test_line_belongs_to_the_item_in_which_most_of_it_is_said(start_ms, end_ms, part):
    line = said(start_ms, end_ms)
    assert assign_to_items([line], SHOTS) == {part: (line,)}


def test_line_outside_of_all_items_belongs_to_the_nearest_one():
    shots = [ItemLocator(0, 5_000, 6_000), ItemLocator(1, 20_000, 30_000)]
    lines = [said(0, 1_000), said(7_000, 8_000), said(15_000, 16_000), said(40_000, 41_000)]
    assert assign_to_items(lines, shots) == {0: tuple(lines[:2]), 1: tuple(lines[2:])}


def test_only_item_has_all_lines():
    lines = [said(0, 1_000), said(7_000, 8_000)]
    assert assign_to_items(lines, [ItemLocator()]) == {0: tuple(lines)}


@given(st.lists(st.integers(0, 50_000), max_size=20))
def test_every_line_has_one_item(starts):
    lines = [said(start, start + 100) for start in sorted(starts)]
    assigned = assign_to_items(lines, SHOTS)
    assert sorted(text.start_ms for own in assigned.values() for text in own) == sorted(starts)


# --- contents ---


def content(number=1, texts=(), upto_ms=0, source=None, size=1000, locator=WHOLE):
    picture = Picture(4, 4, "TOY", texts=texts)
    item = StoredPicture(
        number, bytes([number]) * 32, picture, None, b"/films/%d.toy" % number, size, 0,
        source=source, kind="video", locator=locator,
    )  # fmt: skip
    return PendingContent(number, (item,), upto_ms)


class ToyExecutor:
    """Runs tasks with a function, and notes them."""

    def __init__(self, answer):
        self.answer, self.tasks, self.rounds = answer, [], []

    def run(self, make_worker, tasks):
        self.rounds.append(len(tasks))
        for task in tasks:
            self.tasks.append(task)
            yield task, self.answer(task)

    def close(self):
        pass


def read(page, answer, load_item=None, **options):
    executor = ToyExecutor(answer)
    factory = SoundReaderFactory(lambda: None, lambda file, from_ms: iter(()))
    make_texts = read_sounds(executor, factory, load_item, "by-1", **options)
    return list(make_texts(page)), executor


def windows(count):
    """Return the answers of a sound of some windows of a second."""

    def answer(task):
        next_ms = task.from_ms + 1000
        is_last = next_ms >= 1000 * count
        text = said(task.from_ms, task.from_ms + 500)
        return SoundWindow((text,), None if is_last else next_ms, "de"), 0.5

    return answer


def test_windows_follow_each_other_and_keep_the_language():
    results, executor = read([content()], windows(3))
    assert [(one.state, one.from_ms, one.upto_ms) for one in results] == [
        (DerivedState.PARTIAL, 0, 1000),
        (DerivedState.PARTIAL, 1000, 2000),
        (DerivedState.DONE, 2000, None),
    ]
    assert [task.request.language for task in executor.tasks] == [None, "de", "de"]
    assert [one.seconds for one in results] == [0.5] * 3


def test_long_contents_are_read_side_by_side():
    _, executor = read([content(1), content(2), content(3)], windows(2))
    assert executor.rounds == [3, 3]


def test_stopped_work_goes_on_at_its_window_in_its_language():
    own, other = (replace(said(0, 500), language="fr", made_by=name) for name in ("by-1", "by-2"))
    results, executor = read([content(texts=(other, own), upto_ms=2000)], windows(3))
    assert [task.from_ms for task in executor.tasks] == [2000]
    assert executor.tasks[0].request == SoundRequest("fr", frozenset())
    assert results[0].from_ms == 2000


def subtitle(language):
    return Text("subtitle", "words", language)


@pytest.mark.parametrize(
    ("languages", "options"), [([None], {}), (["en", None], {}), (["de-AT"], {"language": "de"})]
)
def test_subtitles_in_the_language_of_the_film_stand_for_its_words(languages, options):
    texts = tuple(map(subtitle, languages))
    (result,), executor = read([content(texts=texts)], windows(1), **options)
    assert (result.state, result.texts) == (DerivedState.DONE, {})
    assert result.error == "it has subtitles in its language"
    assert executor.tasks == []


def test_subtitles_in_other_languages_are_compared_with_what_is_spoken():
    texts = (subtitle("en-US"), subtitle("fr"))
    _, executor = read([content(texts=texts)], windows(1))
    assert executor.tasks[0].request == SoundRequest(None, frozenset({"en", "fr"}))
    _, executor = read([content(texts=texts)], windows(1), language="de")
    assert executor.tasks[0].request.language == "de"


def test_a_few_subtitles_do_not_stand_for_the_words_of_a_long_film():
    hour = ItemLocator(0, 0, 3_600_000)
    few, many = (subtitle("en"),) * 40, (subtitle("de"),) * 70
    _, executor = read([content(texts=(*few, *many), locator=hour)], windows(1))
    assert executor.tasks[0].request.subtitle_languages == frozenset({"de"})
    results, executor = read([content(texts=(subtitle(None),) * 70, locator=hour)], windows(1))
    assert (len(results), executor.tasks) == (1, [])


def test_note_of_an_enricher_is_kept():
    (result,), _ = read([content()], lambda task: (SoundWindow(note="it has subtitles"), 0.1))
    assert (result.state, result.error) == (DerivedState.DONE, "it has subtitles")


def test_failure_keeps_what_was_read_and_where_it_was():
    def answer(task):
        return windows(9)(task) if task.from_ms < 2000 else TaskFailure("the decoder crashed")

    results, _ = read([content()], answer)
    last = results[-1]
    assert (last.state, last.from_ms, last.upto_ms) == (DerivedState.FAILED, 2000, 2000)
    assert last.error == "the decoder crashed"


def test_file_that_is_gone_has_no_result():
    results, _ = read([content()], lambda task: TaskFailure("it vanished", transient=True))
    assert results == []


def test_endless_sound_is_read_for_a_day(monkeypatch):
    monkeypatch.setattr(sound_tracks, "MAX_SOUND_MS", 3000)
    results, _ = read([content()], windows(1000))
    assert [one.upto_ms for one in results] == [1000, 2000, None]
    assert results[-1].error == "only its first 24 hours were read"


def test_window_that_does_not_advance_ends_the_work():
    results, _ = read([content(upto_ms=500)], lambda task: (SoundWindow((), 500), 0.1))
    assert [one.state for one in results] == [DerivedState.DONE]


# --- contents that are no files of a folder ---


def test_contents_are_loaded_until_memory_is_full(monkeypatch):
    monkeypatch.setattr(sound_tracks, "MAX_LOADED_BYTES", 2000)
    source = ("archive", b"uri", b"key")
    page = [content(n, source=source) for n in (1, 2, 3)]
    results, executor = read(page, windows(2), lambda *item: b"content")
    assert executor.rounds == [2, 2, 1, 1]
    assert {task.content for task in executor.tasks} == {b"content"}
    assert len(results) == 6


def test_content_that_cannot_be_loaded_fails_unless_that_may_pass():
    def load_item(kind, uri, key, digest):
        raise DecodeError("it is gone", transient=digest[0] == 1)

    page = [content(n, source=("archive", b"", b"")) for n in (1, 2)]
    (result,), _ = read(page, windows(1), load_item)
    assert (result.digest[0], result.error) == (2, "it is gone")


# --- the worker ---


class ToyReader:
    def read(self, blocks, request):
        return SoundWindow(tuple(blocks))


def test_worker_opens_files_and_contents(tmp_path):
    path = tmp_path / "a.film"
    path.write_bytes(b"film")
    facts = path.stat()

    def open_sound(file, from_ms):
        yield file.read(), from_ms

    read_window = SoundReaderFactory(ToyReader, open_sound)()
    task = sound_tracks.WindowTask(bytes(path), facts.st_size, facts.st_mtime_ns, from_ms=3)
    assert read_window(task)[0].texts == ((b"film", 3),)
    assert read_window(sound_tracks.WindowTask(content=b"other"))[0].texts == ((b"other", 0),)
    with pytest.raises(DecodeError, match="changed"):
        read_window(replace(task, size=1))


def test_unreadable_disk_is_a_failure_that_may_pass():
    def open_sound(file, from_ms):
        raise OSError(5, "Input/output error")
        yield

    with pytest.raises(DecodeError) as failure:
        SoundReaderFactory(ToyReader, open_sound)()(sound_tracks.WindowTask(content=b"x"))
    assert failure.value.details.get("transient")
