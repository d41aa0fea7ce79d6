"""What one run has done so far, in numbers and names."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from mmsearch.core.records import FailedFile
from mmsearch.core.requests import IndexReport, Progress
from mmsearch.indexing.diff import FileOutcome


class RunStats:
    """The count of a run, from its beginning.

    Attributes:
        outcomes: Files by what became of them; those that failed are not among them.
        failed: Files that could not be read, in the order in which they were met.
        gone: Files that no longer exist.
        encoded: Contents that have a vector since the run began.
        uncommitted: Contents that are encoded, and not yet committed.
        total: Files to settle; None while that is not known.
        unreadable_folders: Folders that could not be listed.
        captions_removed: Captions that a table gave before and gives no more.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[FileOutcome] = Counter()
        self.failed: list[FailedFile] = []
        self.gone = 0
        self.captions_removed = 0
        self.encoded = 0
        self.uncommitted = 0
        self.total: int | None = None
        self.unreadable_folders: tuple[FailedFile, ...] = ()
        self._unreadable_texts: dict[bytes, FailedFile] = {}
        self._started_at = time.monotonic()

    def add_unreadable_texts(self, problems: Sequence[FailedFile]) -> None:
        """Note sources of texts that could not be read, each once."""
        self._unreadable_texts.update((problem.path, problem) for problem in problems)

    def progress(self, phase: str) -> Progress:
        """How far the run has come."""
        done = self.outcomes.total() + len(self.failed) + self.uncommitted
        return Progress(phase, done, self.total, self.encoded + self.uncommitted)

    def counts(self) -> Mapping[str, int]:
        """The report's numbers, for the catalog."""
        counts = {outcome.value: self.outcomes[outcome] for outcome in FileOutcome}
        return counts | {
            "gone": self.gone,
            "failed": len(self.failed),
            "encoded": self.encoded,
            "captions_removed": self.captions_removed,
        }

    def report(self) -> IndexReport:
        """What was done."""
        return IndexReport(
            added=self.outcomes[FileOutcome.ADDED],
            changed=self.outcomes[FileOutcome.CHANGED],
            unchanged=self.outcomes[FileOutcome.UNCHANGED],
            moved=self.outcomes[FileOutcome.MOVED],
            copied=self.outcomes[FileOutcome.COPIED],
            gone=self.gone,
            failed=tuple(self.failed),
            still_failed=self.outcomes[FileOutcome.STILL_FAILED],
            unreadable_folders=self.unreadable_folders,
            unreadable_texts=tuple(
                problem for _, problem in sorted(self._unreadable_texts.items())
            ),
            seconds=time.monotonic() - self._started_at,
            encoded=self.encoded,
            captions_removed=self.captions_removed,
        )
