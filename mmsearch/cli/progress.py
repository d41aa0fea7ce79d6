"""Progress bars on stderr for long-running commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.core.results import Progress


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """Show a progress bar on stderr if it is a terminal.

    Yields:
        The callback that updates the bar; it does nothing if there is no terminal.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    with RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("looking for pictures", total=None, speed="")
        started_s = time.monotonic()
        descriptions = {
            "scan": "looking for pictures",
            "encode": "indexing",
            "derive": "deriving vectors",
            "texts": "reading texts",
            "merge": "merging segments",
            "build": "building the vector index",
            "export": "exporting",
            "import": "importing",
        }

        def update_bar(progress: Progress) -> None:
            speed = progress.encoded / max(time.monotonic() - started_s, 1e-3)
            bar.update(
                task,
                description=descriptions[progress.phase],
                completed=progress.done,
                total=progress.total,
                speed=f"{speed:.1f} pictures/s" if progress.encoded else "",
            )

        yield update_bar


@contextmanager
def show_download() -> Iterator[Callable[[Progress], None]]:
    """Show the progress of a download in bytes on stderr if it is a terminal.

    Yields:
        The callback that updates the bar; it does nothing if there is no terminal.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as RichProgress

    with RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("downloading", total=None)

        def update_bar(progress: Progress) -> None:
            if progress.phase == "compile":
                # Its own messages follow.
                bar.stop()
                return
            bar.update(task, completed=progress.done, total=progress.total)

        yield update_bar
