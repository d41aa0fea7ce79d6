"""Perceptual hashes of pictures that were indexed without one.

Earlier versions made none, and imported vectors come without pixels. A run over a folder reads the
pictures of that folder that have no hash, and the kept copies of those that are in no folder. Each
page is committed, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from mmsearch.core.catalog import CatalogWriter
from mmsearch.core.duplicates import UnhashedPicture
from mmsearch.core.errors import DecodeError
from mmsearch.core.files import choose_modality, clamped_mtime_ns
from mmsearch.core.protocols import Executor, Modality
from mmsearch.core.results import Progress, TaskFailure
from mmsearch.core.types import IMAGE_KIND, WHOLE, DecodedImage
from mmsearch.indexing.duplicates import RULES_VERSION
from mmsearch.indexing.encode import DecodeTask, check_unchanged
from mmsearch.modalities._perceptual_hash import PLAIN, perceptual_hash
from mmsearch.storage.layout import IndexLayout, original_path, thumbnail_path

PAGE_SIZE: Final = 512
"""Number of pictures that are read between two commits."""


@dataclass(frozen=True)
class HasherFactory:
    """Factory for the worker of a process that makes hashes; it is pickled.

    Attributes:
        modalities: Readers of files.
        edge_px: Shorter edge of the pixels that are hashed, that of an indexing run.
    """

    modalities: tuple[Modality, ...]
    edge_px: int

    def __call__(self) -> Callable[[DecodeTask], int]:
        """Return the worker."""
        return self._hash

    def _hash(self, task: DecodeTask) -> int:
        check_unchanged(task)
        modality = choose_modality(self.modalities, task.path)
        if modality is None or modality.kind != IMAGE_KIND:
            raise DecodeError("this is no still picture")
        item = next(iter(modality.items(task.path, self.edge_px, 0, WHOLE)), None)
        check_unchanged(task)
        return perceptual_hash(item.pixels) if isinstance(item, DecodedImage) else PLAIN


def add_missing_hashes(
    layout: IndexLayout,
    catalog: CatalogWriter,
    source_id: int,
    executor: Executor,
    make_hasher: HasherFactory,
    progress: Callable[[Progress], None],
) -> None:
    """Hash the pictures of a source that have no perceptual hash.

    A picture that cannot be read gets `PLAIN` and is not tried again, unless its file is missing or
    has changed. Nothing is looked for if the state of the groups says that all have one.

    Args:
        layout: File layout of the index.
        catalog: Catalog, open for writing.
        source_id: The source.
        executor: Runs the workers.
        make_hasher: Makes a worker.
        progress: Called before the first picture and after each one.
    """
    duplicates = catalog.duplicates
    state = duplicates.state()
    grouped = state.last_content if state and state.version == RULES_VERSION else 0
    after = 0 if state is None or state.unhashed else grouped
    if after == duplicates.last_content():
        return
    done = 0
    while page := duplicates.list_unhashed(source_id, after, PAGE_SIZE):
        if not done:
            total = duplicates.count_unhashed(source_id)
            progress(Progress("hashes", 0, total))
        hashes, tasks = _make_tasks(layout, page)
        done += len(hashes)
        for task, outcome in executor.run(make_hasher, list(tasks)):
            if not isinstance(outcome, TaskFailure):
                hashes[tasks[task]] = outcome
            elif not outcome.transient:
                hashes[tasks[task]] = PLAIN
            done += 1
            progress(Progress("hashes", done, total))
        # Contents that were compared without a hash are compared again.
        old = {picture.item_id for picture in page if picture.content_id <= grouped}
        is_outdated = any(hashes.get(item, PLAIN) != PLAIN for item in old)
        duplicates.save_hashes(hashes, regroup=is_outdated)
        after = page[-1].content_id
    state = duplicates.state()
    if done and state is not None:
        # Nothing else counts what is left if the groups stay as they are.
        left = replace(state, unhashed=duplicates.count_unhashed())
        duplicates.save([], left, replace=False)


def _make_tasks(
    layout: IndexLayout, page: Sequence[UnhashedPicture]
) -> tuple[dict[int, int], dict[DecodeTask, int]]:
    """Return the hashes of pictures that nothing is left of, and the items of the tasks."""
    hashes: dict[int, int] = {}
    tasks: dict[DecodeTask, int] = {}
    for picture in page:
        if picture.path is not None:
            task: DecodeTask | None = DecodeTask(picture.path, picture.size, picture.mtime_ns)
        else:
            task = _find_copy(layout, picture.digest)
        if task is None:
            hashes[picture.item_id] = PLAIN
        else:
            tasks[task] = picture.item_id
    return hashes, tasks


def _find_copy(layout: IndexLayout, digest: bytes) -> DecodeTask | None:
    """Return the task of the thumbnail of a picture, or of its original; None without both."""
    for path in (
        thumbnail_path(layout.thumbnails, digest),
        original_path(layout.originals, digest),
    ):
        with suppress(OSError):
            found = path.stat()
            return DecodeTask(os.fsencode(path), found.st_size, clamped_mtime_ns(found))
    return None
