"""Progress of long calls: a callback, or a tqdm progress bar."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmsearch.core.errors import UsageError
from mmsearch.core.results import Progress

if TYPE_CHECKING:
    from tqdm.auto import tqdm

ProgressOption = bool | Callable[[Progress], None]
"""True shows a progress bar, False shows nothing, a callable is called with each `Progress`."""


@contextmanager
def open_progress(progress: ProgressOption) -> Iterator[Callable[[Progress], None]]:
    """Open the callback for a ``progress`` argument; a bar is closed at the end.

    Raises:
        UsageError: The argument is neither a boolean nor callable.
    """
    if progress is True:
        bar = _ProgressBar()
        try:
            yield bar.update
        finally:
            bar.close()
    elif progress is False:
        yield lambda state: None
    elif callable(progress):
        yield progress
    else:
        raise UsageError(
            f"progress must be True, False or a callable, got {progress!r}.",
            "Pass progress=True for a progress bar.",
        )


class _ProgressBar:
    """One tqdm bar for each phase; safe for many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._phase = ""
        self._bar: tqdm | None = None

    def update(self, progress: Progress) -> None:
        """Show a progress."""
        from tqdm.auto import tqdm  # noqa: PLC0415 - only bars need it

        with self._lock:
            if self._bar is None or progress.phase != self._phase:
                self._close_bar()
                self._phase = progress.phase
                self._bar = tqdm(desc=progress.phase, unit=" files")
            self._bar.total = progress.total
            self._bar.n = progress.done
            self._bar.refresh()

    def close(self) -> None:
        """Close the bar; what it shows stays."""
        with self._lock:
            self._close_bar()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
