"""Work of enrichers: texts about the contents of an index that have none of them yet.

What is left is what has no row in the table ``derived``. Each page of contents becomes a file and a
commit, so an interrupted run goes on where it was, and searches find what is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.derived import (
    EVERYTHING,
    ContentScope,
    DerivedState,
    DerivedTexts,
    PendingContent,
)
from mmsearch.core.enrichers import PixelEnricher, VectorEnricher
from mmsearch.core.errors import DecodeError, MMSearchError
from mmsearch.core.files import choose_modality, content_as_file
from mmsearch.core.protocols import Executor, Modality
from mmsearch.core.records import FailedFile
from mmsearch.core.results import Progress, TaskFailure
from mmsearch.core.types import DecodedImage, ItemLocator, Picture, Text
from mmsearch.indexing.compaction import merge_derived
from mmsearch.indexing.encode import DecodeTask, check_unchanged
from mmsearch.indexing.spaces import gather_vectors
from mmsearch.storage.derived import write_derived
from mmsearch.storage.layout import IndexLayout

MAX_DERIVED_FILES = 32
"""Number of files of derived texts from which on a run merges them."""

VECTOR_PAGE_SIZE = 4096
"""Number of contents whose stored vectors are described between two commits."""

PIXEL_PAGE_SIZE = 64
"""Number of contents that are read between two commits."""

COMMIT_S = 60.0
"""Seconds of work after which a page that is not finished is committed, as far as it is read."""

WINDOW_S = 15.0
"""Seconds after which a worker returns what it has of a long content."""

MakeTexts = Callable[[Sequence[PendingContent]], Iterator[DerivedTexts]]
"""Function that makes the texts of a page of contents; their `made_by` is set afterwards."""


@dataclass(frozen=True)
class EnrichJob:
    """Work of one enricher.

    Attributes:
        enricher: Its name, which is the source of its texts.
        made_by: Its fingerprint.
        kinds: Kinds of the contents that it reads.
        page_size: Number of contents between two commits.
        retry_failed: Try contents again that it could not read.
        scope: The contents to work on.
        text_first: Begin with contents that are likely to have text in them.
    """

    enricher: str
    made_by: str
    kinds: frozenset[str]
    page_size: int
    retry_failed: bool = False
    scope: ContentScope = EVERYTHING
    text_first: bool = False


@dataclass
class EnrichStats:
    """Counts of the work of one enricher.

    Attributes:
        done: Number of contents that it has finished.
        texts: Number of texts that it has made.
        failed: Files that it could not read.
        notes: Files of which it read less than all, and why.
        seconds: Time that it took.
    """

    done: int = 0
    texts: int = 0
    failed: list[FailedFile] = field(default_factory=list)
    notes: list[FailedFile] = field(default_factory=list)
    seconds: float = 0.0


def enrich(
    layout: IndexLayout,
    catalog: CatalogWriter,
    job: EnrichJob,
    make_texts: MakeTexts,
    progress: Callable[[Progress], None],
) -> EnrichStats:
    """Make the texts of all contents that an enricher has not finished, with a commit per page.

    A part of a long content is committed at once, and so is what took `COMMIT_S`.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        job: The work.
        make_texts: Makes the texts of a page.
        progress: Called at the start and after each content.
    """
    started_at = time.monotonic()
    stats = EnrichStats()
    counts = catalog.derived.count(job.enricher, job.made_by, job.kinds, job.scope)
    finished = counts.done + (0 if job.retry_failed else counts.failed)
    total = counts.done + counts.failed + counts.left
    # A model is loaded before the first content is done.
    progress(Progress(job.enricher, finished, total))
    for page in _list_pages(catalog, job):
        paths = {item.digest: item.path for content in page for item in content.items}
        results: list[DerivedTexts] = []
        committed_at = time.monotonic()
        for result in make_texts(page):
            results.append(_signed(result, job))
            _count(stats, results[-1], paths[result.digest])
            progress(Progress(job.enricher, finished + stats.done + len(stats.failed), total))
            is_late = time.monotonic() - committed_at > COMMIT_S
            if is_late or result.state is DerivedState.PARTIAL:
                commit_derived(layout, catalog, results)
                results = []
                committed_at = time.monotonic()
        commit_derived(layout, catalog, results)
    limit_derived_files(layout, catalog)
    stats.seconds = time.monotonic() - started_at
    return stats


def _list_pages(catalog: CatalogWriter, job: EnrichJob) -> Iterator[list[PendingContent]]:
    """Yield what is left of a job, page by page; the caller commits each page before the next."""
    tried: set[int] = set()
    for likely_text in (True, False) if job.text_first else (False,):
        after_id = 0
        while page := catalog.derived.list_pending(
            job.enricher,
            job.made_by,
            job.kinds,
            after_id,
            job.page_size,
            retry_failed=job.retry_failed,
            scope=job.scope,
            likely_text=likely_text,
        ):
            after_id = page[-1].id
            # What the first pass could not finish is left to the next run.
            left = [content for content in page if content.id not in tried]
            if likely_text:
                tried.update(content.id for content in left)
            if left:
                yield left


def commit_derived(
    layout: IndexLayout, catalog: CatalogWriter, contents: Sequence[DerivedTexts]
) -> None:
    """Write a file of derived texts and commit it; nothing is written for no contents."""
    if contents:
        file = write_derived(layout, catalog.derived.next_number(), contents)
        catalog.derived.commit(file, contents)


def limit_derived_files(layout: IndexLayout, catalog: CatalogWriter) -> None:
    """Merge the files of derived texts if there are more than `MAX_DERIVED_FILES`."""
    if len(catalog.derived.files()) > MAX_DERIVED_FILES:
        merge_derived(layout, catalog)


def _signed(result: DerivedTexts, job: EnrichJob) -> DerivedTexts:
    """Return texts with the names of the enricher and its fingerprint."""
    texts = {
        part: tuple(replace(text, source=job.enricher, made_by=job.made_by) for text in own)
        for part, own in result.texts.items()
        if own
    }
    return replace(result, enricher=job.enricher, made_by=job.made_by, texts=texts)


def _count(stats: EnrichStats, result: DerivedTexts, path: bytes) -> None:
    if result.state is DerivedState.FAILED:
        stats.failed.append(FailedFile(path, result.error or ""))
        return
    stats.texts += sum(len(texts) for texts in result.texts.values())
    if result.state is DerivedState.DONE:
        stats.done += 1
        if result.error is not None:
            stats.notes.append(FailedFile(path, result.error))


def describe_vectors(
    layout: IndexLayout, catalog: CatalogWriter, enricher: VectorEnricher
) -> MakeTexts:
    """Return the function that makes texts from the stored image vectors of a page."""

    def make_texts(page: Sequence[PendingContent]) -> Iterator[DerivedTexts]:
        started_at = time.monotonic()
        segments = {segment.number: segment for segment in catalog.segments()}
        items = [item for content in page for item in content.items if item.segment is not None]
        if not items:
            return
        texts = dict(
            zip(
                (item.id for item in items),
                enricher.describe(gather_vectors(layout, segments, items).images),
                strict=True,
            )
        )
        seconds = (time.monotonic() - started_at) / len(page)
        for content in page:
            own = {item.locator.part: texts.get(item.id, ()) for item in content.items}
            yield DerivedTexts(content.items[0].digest, "", "", own, seconds=seconds)

    return make_texts


@dataclass(frozen=True)
class ReadTask(DecodeTask):
    """A content and the items of it that are to be read.

    Attributes:
        parts: Their numbers in the content.
    """

    parts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class ReadWindow:
    """Part of a content that a worker has read.

    Attributes:
        texts: Texts by part.
        last: The last item that was read; None if nothing is left after it.
        seconds: Time that it took.
        problem: Reason why nothing after it can be read, or None.
    """

    texts: dict[int, tuple[Text, ...]]
    last: ItemLocator | None
    seconds: float
    problem: str | None = None


@dataclass(frozen=True)
class PixelReaderFactory:
    """Factory for the worker of a process that reads texts from pixels; it is pickled.

    Attributes:
        modalities: Readers of files.
        build: Builds the enricher, once per process.
    """

    modalities: tuple[Modality, ...]
    build: Callable[[], PixelEnricher]

    def __call__(self) -> Callable[[ReadTask], ReadWindow]:
        """Return the worker; if there is no enricher, it raises the reason for each task."""
        try:
            enricher = self.build()
        except MMSearchError as error:
            # A pool whose initializer fails says nothing about the reason.
            return partial(_refuse, error)

        def read(task: ReadTask) -> ReadWindow:
            if task.content is None:
                check_unchanged(task)
                window = self._read(enricher, task.path, task)
                check_unchanged(task)
                return window
            with content_as_file(task.content) as path:
                return self._read(enricher, path, task)

        return read

    def _read(self, enricher: PixelEnricher, path: bytes, task: ReadTask) -> ReadWindow:
        modality = choose_modality(self.modalities, path, task.file_name)
        if modality is None:
            raise DecodeError("this type of file is not indexed")
        started_at = time.monotonic()
        texts: dict[int, tuple[Text, ...]] = {}
        try:
            for item in modality.items(path, enricher.edge_px, task.first_part, task.known):
                part = item.locator.part
                if part in task.parts and isinstance(item, DecodedImage):
                    texts[part] = enricher.read(item.pixels)
                if part >= max(task.parts):
                    break
                elapsed_s = time.monotonic() - started_at
                if elapsed_s > WINDOW_S and modality.max_items > 1:
                    return ReadWindow(texts, item.locator, elapsed_s)
        except DecodeError as error:
            if not texts and task.first_part == min(task.parts):
                raise
            return ReadWindow(texts, None, time.monotonic() - started_at, error.message)
        return ReadWindow(texts, None, time.monotonic() - started_at)


def _refuse(error: MMSearchError, task: ReadTask) -> NoReturn:
    raise error


def read_pixels(
    executor: Executor,
    make_reader: PixelReaderFactory,
    load_item: Callable[[str, bytes, bytes, bytes], bytes],
    wants: Callable[[Picture], bool] = lambda picture: True,
) -> MakeTexts:
    """Return the function that makes texts from the pixels of a page, in worker processes.

    Args:
        executor: Runs the workers.
        make_reader: Makes a worker.
        load_item: Returns the content of an item by kind and URI of its source, its key and digest.
        wants: Returns False for an item that need not be read; contents without another are not
            opened.
    """

    def make_texts(page: Sequence[PendingContent]) -> Iterator[DerivedTexts]:
        tasks, settled = _make_tasks(page, load_item, wants)
        yield from settled
        done: dict[bytes, tuple[dict[int, tuple[Text, ...]], float]] = {}
        while tasks:
            pending, tasks = tasks, {}
            for task, outcome in executor.run(make_reader, list(pending)):
                digest = pending[task]
                if isinstance(outcome, TaskFailure):
                    # A file that is gone or has changed is tried again by a later run.
                    if not outcome.transient:
                        yield _failure(digest, outcome.reason)
                    continue
                texts, seconds = done.pop(digest, ({}, 0.0))
                texts.update(outcome.texts)
                seconds += outcome.seconds
                if (last := outcome.last) is not None:
                    done[digest] = texts, seconds
                    tasks[replace(task, first_part=last.part + 1, known=last)] = digest
                else:
                    yield DerivedTexts(
                        digest, "", "", texts, seconds=seconds, error=outcome.problem
                    )

    return make_texts


def _make_tasks(
    page: Sequence[PendingContent],
    load_item: Callable[[str, bytes, bytes, bytes], bytes],
    wants: Callable[[Picture], bool],
) -> tuple[dict[ReadTask, bytes], list[DerivedTexts]]:
    """Return the task of each content, by digest, and the results of those without a task."""
    tasks: dict[ReadTask, bytes] = {}
    settled = []
    for content in page:
        digest = content.items[0].digest
        parts = frozenset(item.locator.part for item in content.items if wants(item.picture))
        if not parts:
            settled.append(DerivedTexts(digest, "", ""))
            continue
        try:
            tasks[_read_task(content, parts, load_item)] = digest
        except DecodeError as error:
            if not error.details.get("transient"):
                settled.append(_failure(digest, error.message))
    return tasks, settled


def _read_task(
    content: PendingContent,
    parts: frozenset[int],
    load_item: Callable[[str, bytes, bytes, bytes], bytes],
) -> ReadTask:
    first = content.items[0]
    start = min(parts)
    known = next(item.locator for item in content.items if item.locator.part == start)
    if first.source is None:
        task = ReadTask(first.path, first.size, first.mtime_ns)
    else:
        task = ReadTask(content=load_item(*first.source, first.digest), name=first.path)
    return replace(task, first_part=start, known=known, parts=parts)


def _failure(digest: bytes, reason: str) -> DerivedTexts:
    return DerivedTexts(digest, "", "", state=DerivedState.FAILED, error=reason)
