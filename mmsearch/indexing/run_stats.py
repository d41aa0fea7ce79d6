"""What one run has done so far, in numbers and names."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from mmsearch.core.records import FailedFile
from mmsearch.core.requests import IndexReport, Progress
from mmsearch.indexing.diff import Fate


class Tally:
    """The count of a run, from its beginning.

    Attributes:
        fates: Files by what became of them; those that failed are not among them.
        failed: Files that could not be read, in the order in which they were met.
        gone: Files that no longer exist.
        encoded: Contents that have a vector since the run began.
        underway: Contents that are encoded, and not yet committed.
        total: Files to settle; None while that is not known.
        unreadable_folders: Folders that could not be listed.
        captions_removed: Captions that a table gave before and gives no more.
    """

    def __init__(self) -> None:
        self.fates: Counter[Fate] = Counter()
        self.failed: list[FailedFile] = []
        self.gone = 0
        self.captions_removed = 0
        self.encoded = 0
        self.underway = 0
        self.total: int | None = None
        self.unreadable_folders: tuple[FailedFile, ...] = ()
        self._problems: dict[bytes, FailedFile] = {}
        self._began = time.monotonic()

    def add_problems(self, problems: Sequence[FailedFile]) -> None:
        """Note sources of texts that could not be read, each once."""
        self._problems.update((problem.path, problem) for problem in problems)

    def state(self, phase: str) -> Progress:
        """How far the run has come."""
        done = self.fates.total() + len(self.failed) + self.underway
        return Progress(phase, done, self.total, self.encoded + self.underway)

    def counts(self) -> Mapping[str, int]:
        """The report's numbers, for the catalog."""
        counts = {fate.value: self.fates[fate] for fate in Fate}
        return counts | {
            "gone": self.gone,
            "failed": len(self.failed),
            "encoded": self.encoded,
            "captions_removed": self.captions_removed,
        }

    def report(self) -> IndexReport:
        """What was done."""
        return IndexReport(
            added=self.fates[Fate.ADDED],
            changed=self.fates[Fate.CHANGED],
            unchanged=self.fates[Fate.UNCHANGED],
            moved=self.fates[Fate.MOVED],
            copied=self.fates[Fate.COPIED],
            gone=self.gone,
            failed=tuple(self.failed),
            still_failed=self.fates[Fate.STILL_FAILED],
            unreadable_folders=self.unreadable_folders,
            unreadable_texts=tuple(problem for _, problem in sorted(self._problems.items())),
            seconds=time.monotonic() - self._began,
            encoded=self.encoded,
            captions_removed=self.captions_removed,
        )
