"""Work of enrichers that read sound: windows of sound tracks, each of which is committed.

A film of hours is read window by window, and those of several contents side by side. What is
committed of a content is not read again: a stopped run goes on at its last window.
"""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Final

from mmsearch.core.derived import (
    DerivedState,
    DerivedTexts,
    PendingContent,
    SoundRequest,
    SoundWindow,
)
from mmsearch.core.enrichers import SoundEnricher
from mmsearch.core.errors import DecodeError
from mmsearch.core.files import decode_error_from_os, open_source_file
from mmsearch.core.protocols import Executor
from mmsearch.core.records import StoredPicture
from mmsearch.core.results import TaskFailure
from mmsearch.core.speech import SoundBlock
from mmsearch.core.types import ItemLocator, Text
from mmsearch.indexing.encode import DecodeTask, check_unchanged
from mmsearch.indexing.enrich import MakeTexts

SOUND_PAGE_SIZE: Final = 64
"""Number of contents whose windows are read side by side."""

MAX_LOADED_BYTES: Final = 256_000_000
"""Size of contents that are in no folder up to which they are in memory together."""

MAX_SOUND_MS: Final = 24 * 3600 * 1000
"""Time up to which a sound is read, in milliseconds."""

MIN_LINES: Final = 1
"""Lines of subtitles in a minute on average; fewer translate some words of another language."""

MAX_SOUND_NOTE: Final = "only its first 24 hours were read"
SUBTITLE_NOTE: Final = "it has subtitles in its language"

OpenSound = Callable[[BinaryIO, int], Generator[SoundBlock]]
"""Function that reads the sound of a file from a time in milliseconds on."""


@dataclass(frozen=True)
class WindowTask(DecodeTask):
    """A content and the window of its sound that is to be read.

    Attributes:
        from_ms: Start of the window in milliseconds.
        request: What is known of the sound.
    """

    from_ms: int = 0
    request: SoundRequest = field(default_factory=SoundRequest)


@dataclass(frozen=True)
class SoundReaderFactory:
    """Factory for the worker of a process that reads sound; it is pickled.

    Attributes:
        build: Builds the enricher, once per process.
        open_sound: Reads the sound of a file.
    """

    build: Callable[[], SoundEnricher]
    open_sound: OpenSound

    def __call__(self) -> Callable[[WindowTask], tuple[SoundWindow, float]]:
        """Return the worker, which returns a window and its processor time in seconds."""
        enricher = self.build()

        def read(task: WindowTask) -> tuple[SoundWindow, float]:
            started_at = time.process_time()
            if task.content is not None:
                window = self._read(enricher, io.BytesIO(task.content), task)
            else:
                check_unchanged(task)
                with open_source_file(task.path) as file:
                    window = self._read(enricher, file, task)
                check_unchanged(task)
            return window, time.process_time() - started_at

        return read

    def _read(self, enricher: SoundEnricher, file: BinaryIO, task: WindowTask) -> SoundWindow:
        try:
            with closing(self.open_sound(file, task.from_ms)) as blocks:
                return enricher.read(blocks, task.request)
        except OSError as error:
            raise decode_error_from_os(error) from error


def read_sounds(
    executor: Executor,
    make_reader: SoundReaderFactory,
    load_item: Callable[[str, bytes, bytes, bytes], bytes],
    made_by: str,
    language: str | None = None,
) -> MakeTexts:
    """Return the function that makes texts from the sound of a page, in worker processes.

    Args:
        executor: Runs the workers.
        make_reader: Makes a worker.
        load_item: Returns the content of an item by kind and URI of its source, its key and digest.
        made_by: Fingerprint of the enricher.
        language: Code of the language that is spoken; None to detect that of each content.
    """

    def make_texts(page: Sequence[PendingContent]) -> Iterator[DerivedTexts]:
        tasks: dict[WindowTask, PendingContent] = {}
        loaded = 0
        for content in page:
            request = _request(content, made_by, language)
            if request is None:
                yield _result(content, error=SUBTITLE_NOTE)
                continue
            size = 0 if content.items[0].source is None else content.items[0].size
            if tasks and size and loaded + size > MAX_LOADED_BYTES:
                yield from _read_windows(executor, make_reader, tasks)
                tasks, loaded = {}, 0
            try:
                tasks[_first_task(content, request, load_item)] = content
                loaded += size
            except DecodeError as error:
                # A content that cannot be loaded now is tried again by a later run.
                if not error.details.get("transient"):
                    yield _failure(content, content.upto_ms, error.message)
        yield from _read_windows(executor, make_reader, tasks)

    return make_texts


def _read_windows(
    executor: Executor, make_reader: SoundReaderFactory, tasks: dict[WindowTask, PendingContent]
) -> Iterator[DerivedTexts]:
    """Read contents to their ends: a window of each, then the next one of those that are longer."""
    while tasks:
        pending, tasks = tasks, {}
        for task, outcome in executor.run(make_reader, list(pending)):
            content = pending[task]
            if isinstance(outcome, TaskFailure):
                # A file that is gone or has changed is tried again by a later run.
                if not outcome.transient:
                    yield _failure(content, task.from_ms, outcome.reason)
                continue
            window, seconds = outcome
            note, next_ms = window.note, window.next_ms
            if next_ms is not None and (next_ms >= MAX_SOUND_MS or next_ms <= task.from_ms):
                note, next_ms = MAX_SOUND_NOTE, None
            yield _result(
                content,
                texts=assign_to_items(window.texts, [item.locator for item in content.items]),
                state=DerivedState.DONE if next_ms is None else DerivedState.PARTIAL,
                from_ms=task.from_ms,
                upto_ms=next_ms,
                seconds=seconds,
                error=note,
            )
            if next_ms is not None:
                request = replace(task.request, language=window.language or task.request.language)
                tasks[replace(task, from_ms=next_ms, request=request)] = content


def assign_to_items(
    texts: Sequence[Text], locators: Sequence[ItemLocator]
) -> dict[int, tuple[Text, ...]]:
    """Return timed texts by the part of the item in whose time most of them is, or the nearest one.

    Args:
        texts: Texts with their times.
        locators: Locators of the items of the content, in the order of their parts.
    """
    found: dict[int, list[Text]] = {}
    for text in texts:
        # Of equal items the first one has it: its words were said there first.
        nearest = max(locators, key=lambda locator: _overlap_ms(text, locator))
        found.setdefault(nearest.part, []).append(text)
    return {part: tuple(own) for part, own in found.items()}


def _overlap_ms(text: Text, locator: ItemLocator) -> int:
    """Return for how long a text is said in an item; the negative distance if it is elsewhere."""
    if locator.start_ms is None or locator.end_ms is None:
        return 0
    start_ms = text.start_ms or 0
    end_ms = max(text.end_ms or 0, start_ms + 1)
    return min(end_ms, locator.end_ms) - max(start_ms, locator.start_ms)


def _request(content: PendingContent, made_by: str, language: str | None) -> SoundRequest | None:
    """Return what is known of a sound; None if it has subtitles that stand for its words."""
    texts = [text for item in content.items for text in item.picture.texts]
    minutes = (content.items[-1].locator.end_ms or 0) / 60_000
    counts = Counter(text.language for text in texts if text.kind == "subtitle")
    subtitles = {tag for tag, count in counts.items() if count >= MIN_LINES * minutes}
    languages = frozenset(tag.split("-")[0] for tag in subtitles if tag)
    # Subtitles without a language are taken for those of the language that is spoken.
    if None in subtitles or language in languages:
        return None
    if language is None and content.upto_ms:
        own = (text.language for text in texts if text.made_by == made_by)
        language = next(filter(None, own), None)
    return SoundRequest(language, languages)


def _first_task(
    content: PendingContent,
    request: SoundRequest,
    load_item: Callable[[str, bytes, bytes, bytes], bytes],
) -> WindowTask:
    first: StoredPicture = content.items[0]
    if first.source is None:
        return WindowTask(
            first.path,
            first.size,
            first.mtime_ns,
            from_ms=content.upto_ms,
            request=request,
        )
    loaded = load_item(*first.source, first.digest)
    return WindowTask(content=loaded, name=first.path, from_ms=content.upto_ms, request=request)


def _result(content: PendingContent, **values: object) -> DerivedTexts:
    return replace(DerivedTexts(content.items[0].digest, "", ""), **values)  # type: ignore[arg-type]


def _failure(content: PendingContent, from_ms: int, reason: str) -> DerivedTexts:
    # The next try begins at the window that could not be read.
    return DerivedTexts(
        content.items[0].digest,
        "",
        "",
        state=DerivedState.FAILED,
        from_ms=from_ms,
        upto_ms=from_ms or None,
        error=reason,
    )
