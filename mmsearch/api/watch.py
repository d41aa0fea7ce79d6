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

LOOK_EVERY_S = 0.5
RETRY_EVERY_S = 5.0
LONGEST_WAIT_S = 30.0
"""After so long a run begins, though some files still change: those are left for the next one."""

Fingerprint = tuple[int, int] | None


class Unrest:
    """Files that have changed, and since when each has looked the same.

    Args:
        settle_s: A file is at rest when it has looked the same for so long.
        clock: Seconds, for tests.
        look: Size and modification time of a file; None if there is none.
    """

    def __init__(
        self,
        settle_s: float,
        clock: Callable[[], float] = time.monotonic,
        look: Callable[[str], Fingerprint] | None = None,
    ) -> None:
        self._settle_s = settle_s
        self._clock = clock
        self._look = look or fingerprint
        self._seen: dict[str, tuple[Fingerprint, float]] = {}
        self._since: float | None = None

    def add(self, paths: Iterator[str]) -> None:
        """Note files that have just changed."""
        now = self._clock()
        for path in paths:
            self._seen[path] = (self._look(path), now)
        if self._seen and self._since is None:
            self._since = now

    def due(self) -> frozenset[bytes] | None:
        """None while it is too early to index; else the files that still change."""
        if self._since is None:
            return None
        now = self._clock()
        restless = []
        for path, (before, since) in self._seen.items():
            present = self._look(path)
            if present != before:
                self._seen[path] = (present, now)
                restless.append(path)
            elif now - since < self._settle_s:
                restless.append(path)
        if restless and now - self._since < LONGEST_WAIT_S:
            return None
        self._seen = {path: self._seen[path] for path in restless}
        self._since = now if restless else None
        return frozenset(os.fsencode(path) for path in restless)


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
    own: Path,
    settle_s: float,
    poll: bool,
    say: Callable[[str], None],
    stop: threading.Event,
) -> Iterator[IndexReport]:
    """Index a folder, then again whenever it has changed, until ``stop`` is set.

    Args:
        folder: Absolute.
        run: Indexes it, without the files that are given.
        own: The folder of the indexes, whose changes do not count.
        settle_s: A file is indexed when it has not changed for so long.
        poll: Look at all files again and again, for file systems that report nothing.
        say: Receives a line when the folder cannot be indexed now, and when it can again.
        stop: Ends it.
    """
    trouble = ""
    while not stop.is_set():
        try:
            if not os.path.isdir(folder):  # noqa: PTH112 - bytes paths need os.path
                raise FileNotFoundError(f"{display_path(folder)} is not there.")
            for report in _until_trouble(folder, run, own, settle_s, poll, stop):
                if trouble:
                    say(f"{display_path(folder)} is indexed again.")
                trouble = ""
                yield report
        except (MMSearchError, OSError) as error:
            if str(error) != trouble:
                trouble = str(error)
                say(f"{trouble} Nothing is forgotten; waiting.")
            stop.wait(RETRY_EVERY_S)


def _until_trouble(
    folder: bytes,
    run: Callable[[frozenset[bytes]], IndexReport],
    own: Path,
    settle_s: float,
    poll: bool,
    stop: threading.Event,
) -> Iterator[IndexReport]:
    unrest = Unrest(settle_s)
    home = os.fspath(own) + os.sep
    changes = watchfiles.watch(
        os.fsdecode(folder),
        watch_filter=lambda _, path: not path.startswith(home),
        debounce=int(LOOK_EVERY_S * 1000),
        step=100,
        rust_timeout=int(LOOK_EVERY_S * 1000),
        yield_on_timeout=True,
        stop_event=stop,
        force_polling=poll or None,
    )
    began = False
    for changed in changes:
        if not os.path.isdir(folder):  # noqa: PTH112
            raise FileNotFoundError(f"{display_path(folder)} is not there.")
        unrest.add(path for _, path in changed)
        # The watch is set before the first run, which would miss what happens while it lists.
        restless = unrest.due() if began else frozenset()
        began = True
        if restless is not None:
            yield run(restless)
