"""Indexing jobs started over HTTP: at most one at a time per index, each in its own thread."""

from __future__ import annotations

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Literal

from mmsearch import api
from mmsearch.core.errors import (
    BusyError,
    MMSearchError,
    StateError,
    UnknownNameError,
    to_storage_error,
)
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import Progress
from mmsearch.core.server_results import JobStatus

JobState = Literal["running", "finished", "interrupted", "failed"]

WRITER_WAIT_S = 60.0
"""Seconds that a job waits for other writers, such as clients that add pictures."""

MAX_JOBS = 100
"""Maximum number of jobs that are remembered, including running ones."""


class Job:
    """One run over a source of an index, or over all of them.

    Args:
        index: An index opened for this job only; the job closes it at its end.
        source: Name of the source; None for all.
        retry_failed: See `mmsearch.Index.refresh`.
        verify: See `mmsearch.Index.refresh`.
    """

    def __init__(
        self, index: api.Index, source: str | None, *, retry_failed: bool, verify: bool
    ) -> None:
        self.id = secrets.token_hex(8)
        self.index = index.name
        self.state: JobState = "running"
        self._index = index
        self._source = source
        self._retry_failed = retry_failed
        self._verify = verify
        self._progress = Progress("scan", 0, None)
        self._counts: dict[str, int] | None = None
        self._error: str | None = None
        self._source_errors: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mmsearch-job-{self.id}")
        self._thread.start()

    def stop(self) -> None:
        """Interrupt the job; committed work is kept."""
        self._stop.set()

    def wait(self) -> None:
        """Wait until the job has ended."""
        self._thread.join()

    def status(self) -> JobStatus:
        """Return the state of the job."""
        progress = self._progress
        return JobStatus(
            id=self.id,
            index=self.index,
            source=self._source,
            state=self.state,
            phase=progress.phase if self.state == "running" else None,
            done=progress.done,
            total=progress.total,
            report=self._counts,
            error=self._error,
            source_errors=self._source_errors,
        )

    def _run(self) -> None:
        state: JobState = "failed"
        try:
            with self._index as index:
                outcomes = index.refresh(
                    () if self._source is None else self._source,
                    retry_failed=self._retry_failed,
                    verify=self._verify,
                    wait_s=WRITER_WAIT_S,
                    progress=self._on_progress,
                )
            state = self._record_outcomes(outcomes)
        except KeyboardInterrupt:
            state = "interrupted"
        # A failed job reports its error; the server keeps running.
        except Exception as error:  # noqa: BLE001
            self._error = _describe(error)
        self.state = state

    def _record_outcomes(self, outcomes: Mapping[str, IndexReport | MMSearchError]) -> JobState:
        """Record the counts and errors of the sources, and return the state of the job."""
        counts: Counter[str] = Counter()
        reports = [report for report in outcomes.values() if isinstance(report, IndexReport)]
        for report in reports:
            counts.update(report.counts())
            counts["skipped"] += sum(count.files for count in report.skipped)
            counts["unnoticed"] += report.unnoticed
            counts["described"] += sum(work.described for work in report.described)
        errors = {
            name: _describe(error)
            for name, error in outcomes.items()
            if isinstance(error, MMSearchError)
        }
        if not reports:
            self._error = next(iter(errors.values()))
            return "failed"
        self._counts, self._source_errors = dict(counts), errors
        return "finished"

    def _on_progress(self, progress: Progress) -> None:
        self._progress = progress
        if self._stop.is_set():
            # A run ends early, and keeps its work, on KeyboardInterrupt.
            raise KeyboardInterrupt


class Jobs:
    """All jobs of a server.

    Args:
        open_index: Opens an index by name.
    """

    def __init__(self, open_index: Callable[[str], api.Index]) -> None:
        self._open_index = open_index
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()
        self._is_closed = False

    def start(
        self,
        index: str,
        source: str | None = None,
        *,
        retry_failed: bool = False,
        verify: bool = False,
    ) -> Job:
        """Start a job that updates an index from one of its sources, or from all.

        Raises:
            StateError: Another job is running on the index.
            BusyError: The server is shutting down.
        """
        with self._lock:
            if self._is_closed:
                raise BusyError("The server is shutting down.", "Try again later.")
            if any(job.index == index and job.state == "running" for job in self._jobs.values()):
                raise StateError(
                    f"A job is already running on index {index!r}.",
                    "Wait for that job, or stop it.",
                )
            job = Job(self._open_index(index), source, retry_failed=retry_failed, verify=verify)
            self._jobs[job.id] = job
            while len(self._jobs) > MAX_JOBS:
                finished_id = next(
                    (old_job.id for old_job in self._jobs.values() if old_job.state != "running"),
                    "",
                )
                if self._jobs.pop(finished_id, None) is None:
                    break
        return job

    def list_for_index(self, index: str) -> list[Job]:
        """Return the jobs of an index, oldest first."""
        return [job for job in list(self._jobs.values()) if job.index == index]

    def get(self, index: str, job_id: str) -> Job:
        """Return a job by its id.

        Raises:
            UnknownNameError: The index has no such job.
        """
        job = self._jobs.get(job_id)
        if job is None or job.index != index:
            raise UnknownNameError(f"Index {index!r} has no job {job_id!r}.")
        return job

    def stop(self) -> None:
        """Interrupt running jobs; new ones are refused from now on."""
        with self._lock:
            self._is_closed = True
            jobs = list(self._jobs.values())
        for job in jobs:
            job.stop()

    def close(self) -> None:
        """Interrupt running jobs and wait until they have ended."""
        self.stop()
        for job in list(self._jobs.values()):
            job.wait()


def _describe(error: Exception) -> str:
    """Return the message of an error for clients."""
    known_error = error if isinstance(error, MMSearchError) else to_storage_error(error)
    text = known_error.served_text if known_error else str(error)
    return text or type(error).__name__
