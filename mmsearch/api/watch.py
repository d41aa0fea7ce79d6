"""Keeping an index fresh: what happens in a folder is indexed when it has come to rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import watchfiles

from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.requests import IndexReport

POLL_INTERVAL_S = 0.5
RETRY_INTERVAL_S = 5.0
MAX_SETTLE_WAIT_S = 30.0
"""After so long a run begins, though some files still change: those are left for the next one."""

Fingerprint = tuple[int, int] | None


class SettleTracker:
    """Files that have changed, and since when each has looked the same.

    Args:
        settle_s: A file is at rest when it has looked the same for so long.
        clock: Seconds, for tests.
        read_fingerprint: Size and modification time of a file; None if there is none.
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
        """Note files that have just changed."""
        now = self._clock()
        for path in paths:
            self._files[path] = (self._read_fingerprint(path), now)
        if self._files and self._first_change is None:
            self._first_change = now

    def ready(self) -> frozenset[bytes] | None:
        """None while it is too early to index; else the files that still change."""
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
    """Size and modification time; None if there is no such file."""
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
    """Index a folder, then again whenever it has changed, until ``stop`` is set.

    Args:
        folder: Absolute.
        run: Indexes it, without the files that are given.
        index_home: The folder of the indexes, whose changes do not count.
        settle_s: A file is indexed when it has not changed for so long.
        poll: Look at all files again and again, for file systems that report nothing.
        on_message: Receives a line when the folder cannot be indexed now, and when it can again.
        stop: Ends it.
    """
    last_error = ""
    while not stop.is_set():
        try:
            if not os.path.isdir(folder):  # noqa: PTH112 - bytes paths need os.path
                raise FileNotFoundError(f"{display_path(folder)} is not there.")
            for report in _watch_until_error(folder, run, index_home, settle_s, poll, stop):
                if last_error:
                    on_message(f"{display_path(folder)} is indexed again.")
                last_error = ""
                yield report
        except (MMSearchError, OSError) as error:
            if str(error) != last_error:
                last_error = str(error)
                on_message(f"{last_error} Nothing is forgotten; waiting.")
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
            raise FileNotFoundError(f"{display_path(folder)} is not there.")
        tracker.add(path for _, path in changed)
        # The watch is set before the first run, which would miss what happens while it lists.
        unstable_paths = tracker.ready() if has_run else frozenset()
        has_run = True
        if unstable_paths is not None:
            yield run(unstable_paths)
