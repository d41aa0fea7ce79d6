"""Progress bars on stderr for long-running commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.core.results import Progress

ENRICHER_PHASES = {
    "tags": "choosing tags",
    "ocr": "reading texts in pictures",
    "speech": "writing down speech",
    "captions": "writing captions",
}
"""Descriptions of the work of enrichers, by name."""


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
            "migrate": "copying files",
            "wait": "waiting for another run",
            "build": "building the vector index",
            "hashes": "hashing pictures",
            "duplicates": "looking for duplicates",
            "export": "exporting",
            "import": "importing",
            **ENRICHER_PHASES,
        }
        phase, phase_s, before = "scan", started_s, 0

        def update_bar(progress: Progress) -> None:
            nonlocal phase, phase_s, before
            now_s = time.monotonic()
            if progress.phase != phase:
                # The time left is that of the phase, and so is its speed.
                phase, phase_s, before = progress.phase, now_s, max(progress.done - 1, 0)
                bar.reset(task, completed=before)
            if progress.phase in ENRICHER_PHASES:
                speed = f"{(progress.done - before) / max(now_s - phase_s, 1e-3):.1f} files/s"
            elif progress.encoded:
                speed = f"{progress.encoded / max(now_s - started_s, 1e-3):.1f} pictures/s"
            else:
                speed = ""
            bar.update(
                task,
                description=descriptions[progress.phase],
                completed=progress.done,
                total=progress.total,
                speed=speed,
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
