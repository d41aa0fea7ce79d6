"""A bar on stderr for long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.core.requests import Progress


@contextmanager
def show_progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr if that is a terminal, else nothing."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda state: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("looking for pictures", total=None, speed="")
        began = time.monotonic()
        words = {
            "scan": "looking for pictures",
            "encode": "indexing",
            "texts": "reading texts",
            "merge": "merging segments",
            "build": "building the vector index",
        }

        def show(state: Progress) -> None:
            speed = state.encoded / max(time.monotonic() - began, 1e-3)
            bar.update(
                task,
                description=words[state.phase],
                completed=state.done,
                total=state.total,
                speed=f"{speed:.1f} pictures/s" if state.encoded else "",
            )

        yield show
