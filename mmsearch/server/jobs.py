"""Indexing jobs started over HTTP: at most one at a time per index, each in its own thread."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from mmsearch import api
from mmsearch.core.errors import (
    BusyError,
    MMSearchError,
    StateError,
    UnknownNameError,
    to_storage_error,
)
from mmsearch.core.records import Root
from mmsearch.core.reports import IndexReport
from mmsearch.core.results import JobStatus, Progress

JobState = Literal["running", "finished", "interrupted", "failed"]

WRITER_WAIT_S = 60.0
"""Seconds that a job waits for other writers, such as clients that add pictures."""

MAX_JOBS = 100
"""Maximum number of jobs that are remembered, including running ones."""


class Job:
    """One indexing run over one folder.

    Args:
        index: An index opened for this job only; the job closes it at its end.
        root: The folder to index.
        retry_failed: See `mmsearch.Index.add_folder`.
        verify: See `mmsearch.Index.add_folder`.
    """

    def __init__(self, index: api.Index, root: Root, *, retry_failed: bool, verify: bool) -> None:
        self.id = secrets.token_hex(8)
        self.index = index.name
        self.state: JobState = "running"
        self._index = index
        self._root = root
        self._retry_failed = retry_failed
        self._verify = verify
        self._progress = Progress("scan", 0, None)
        self._report: IndexReport | None = None
        self._error: str | None = None
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
        progress, report = self._progress, self._report
        counts = None
        if report is not None:
            skipped = sum(count.files for count in report.skipped)
            counts = report.counts() | {"skipped": skipped, "unnoticed": report.unnoticed}
        return JobStatus(
            id=self.id,
            index=self.index,
            root=self._root.name,
            state=self.state,
            phase=progress.phase if self.state == "running" else None,
            done=progress.done,
            total=progress.total,
            report=counts,
            error=self._error,
        )

    def _run(self) -> None:
        state: JobState = "failed"
        try:
            with self._index as index:
                self._report = index.add_folder(
                    self._root.path,
                    retry_failed=self._retry_failed,
                    verify=self._verify,
                    wait_s=WRITER_WAIT_S,
                    progress=self._on_progress,
                )
            state = "finished"
        except KeyboardInterrupt:
            state = "interrupted"
        # A failed job reports its error; the server keeps running.
        except Exception as error:  # noqa: BLE001
            known_error = error if isinstance(error, MMSearchError) else to_storage_error(error)
            text = known_error.served_text if known_error else str(error)
            self._error = text or type(error).__name__
        self.state = state

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
        self, index: str, root: Root, *, retry_failed: bool = False, verify: bool = False
    ) -> Job:
        """Start a job that updates an index from a folder.

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
            job = Job(self._open_index(index), root, retry_failed=retry_failed, verify=verify)
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
