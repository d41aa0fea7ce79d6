"""Statistics of one indexing run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

from mmsearch.core.records import FailedFile
from mmsearch.core.results import IndexReport, Progress
from mmsearch.indexing.diff import FileOutcome


class RunStats:
    """Running counts of one indexing run.

    Attributes:
        outcomes: Number of files by outcome, without files that failed in this run.
        failed: Files that could not be read, in the order in which they failed.
        gone: Number of files that no longer exist.
        encoded: Number of contents encoded and committed in this run.
        uncommitted: Number of contents encoded but not yet committed.
        total: Number of files to process; None until it is known.
        unreadable_folders: Folders that could not be listed.
        captions_removed: Number of captions that are no longer in their table.
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
        """Record text files that could not be read, each path once."""
        self._unreadable_texts.update((problem.path, problem) for problem in problems)

    def progress(self, phase: str) -> Progress:
        """Return the progress of the run in a given phase."""
        done = self.outcomes.total() + len(self.failed) + self.uncommitted
        return Progress(phase, done, self.total, self.encoded + self.uncommitted)

    def counts(self) -> Mapping[str, int]:
        """Return the counts of the report, for the catalog."""
        counts = {outcome.value: self.outcomes[outcome] for outcome in FileOutcome}
        return counts | {
            "gone": self.gone,
            "failed": len(self.failed),
            "encoded": self.encoded,
            "captions_removed": self.captions_removed,
        }

    def report(self) -> IndexReport:
        """Return the report of the run."""
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
