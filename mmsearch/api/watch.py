"""Watching a folder: changed files are indexed once they are stable."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import watchfiles

from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, UnknownNameError
from mmsearch.core.reports import IndexReport

POLL_INTERVAL_S = 0.5
RETRY_INTERVAL_S = 5.0
MAX_SETTLE_WAIT_S = 30.0
"""Maximum seconds to wait for stable files. A run then starts without the files that still change,
which are left for the next run."""

Fingerprint = tuple[int, int] | None


class SettleTracker:
    """Tracks changed files and the time since which each is unchanged.

    Args:
        settle_s: Seconds without a change after which a file is stable.
        clock: Returns the time in seconds; replaceable for tests.
        read_fingerprint: Returns the size and modification time of a path, or None if there is no
            such file; default: `fingerprint`.
    """

    def __init__(
        self,
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
        read_fingerprint: Callable[[str], Fingerprint] | None = None,
    ) -> None:
        self._settle_s = settle_s
        self._clock = clock
        self._read_fingerprint = read_fingerprint or fingerprint
        self._files: dict[str, tuple[Fingerprint, float]] = {}
        self._first_change: float | None = None

    def add(self, paths: Iterator[str]) -> None:
        """Record files that have just changed."""
        now = self._clock()
        for path in paths:
            self._files[path] = (self._read_fingerprint(path), now)
        if self._files and self._first_change is None:
            self._first_change = now

    def ready(self) -> frozenset[bytes] | None:
        """Return the files that still change when a run is due; None if no run is due."""
        if self._first_change is None:
            return None
        now = self._clock()
        unstable_paths = []
        for path, (previous, unchanged_since) in self._files.items():
            current = self._read_fingerprint(path)
            if current != previous:
                self._files[path] = (current, now)
                unstable_paths.append(path)
            elif now - unchanged_since < self._settle_s:
                unstable_paths.append(path)
        if unstable_paths and now - self._first_change < MAX_SETTLE_WAIT_S:
            return None
        self._files = {path: self._files[path] for path in unstable_paths}
        self._first_change = now if unstable_paths else None
        return frozenset(os.fsencode(path) for path in unstable_paths)


def fingerprint(path: str) -> Fingerprint:
    """Return the size and modification time (ns) of a file; None if there is no such file."""
    try:
        facts = os.stat(path)  # noqa: PTH116 - thousands of paths at once
    except (OSError, ValueError):
        return None
    return facts.st_size, facts.st_mtime_ns


def watch(
    folder: bytes,
    run: Callable[[frozenset[bytes]], IndexReport],
    *,
    index_home: Path,
    settle_s: float,
    poll: bool,
    on_message: Callable[[str], None],
    stop: threading.Event,
) -> Iterator[IndexReport]:
    """Index a folder now and after each change, until ``stop`` is set.

    Args:
        folder: Absolute path of the folder.
        run: Indexes the folder without the given files.
        index_home: Folder of the indexes, in which changes are ignored.
        settle_s: Seconds without a change after which a file is indexed.
        poll: True to poll all files, for file systems that do not report changes.
        on_message: Called with a message when the folder cannot be indexed, and when it can again.
        stop: Event that ends the watch.

    Yields:
        The report of each run.

    Raises:
        UnknownNameError: There is no such model.
    """
    last_error = ""
    while not stop.is_set():
        try:
            if not os.path.isdir(folder):  # noqa: PTH112 - bytes paths need os.path
                raise FileNotFoundError(f"{display_path(folder)} does not exist.")
            for report in _watch_until_error(folder, run, index_home, settle_s, poll, stop):
                if last_error:
                    on_message(f"{display_path(folder)} is indexed again.")
                last_error = ""
                yield report
        except UnknownNameError:
            # A model that does not exist will not exist later either.
            raise
        except (MMSearchError, OSError) as error:
            # The hint is about a call, which this one repeats by itself.
            fact = error.message if isinstance(error, MMSearchError) else str(error)
            if fact != last_error:
                last_error = fact
                on_message(f"{last_error} The index keeps its pictures. Waiting to retry.")
            stop.wait(RETRY_INTERVAL_S)


def _watch_until_error(
    folder: bytes,
    run: Callable[[frozenset[bytes]], IndexReport],
    index_home: Path,
    settle_s: float,
    poll: bool,
    stop: threading.Event,
) -> Iterator[IndexReport]:
    tracker = SettleTracker(settle_s)
    index_prefix = os.fspath(index_home) + os.sep
    changes = watchfiles.watch(
        os.fsdecode(folder),
        watch_filter=lambda _, path: not path.startswith(index_prefix),
        debounce=int(POLL_INTERVAL_S * 1000),
        step=100,
        rust_timeout=int(POLL_INTERVAL_S * 1000),
        yield_on_timeout=True,
        stop_event=stop,
        force_polling=poll or None,
    )
    has_run = False
    for changed in changes:
        if not os.path.isdir(folder):  # noqa: PTH112
            raise FileNotFoundError(f"{display_path(folder)} does not exist.")
        tracker.add(path for _, path in changed)
        # The watch starts before the first run, so that changes during its listing are not missed.
        unstable_paths = tracker.ready() if has_run else frozenset()
        has_run = True
        if unstable_paths is not None:
            yield run(unstable_paths)
