"""Interactive use: lists of hits that notebooks show as contact sheets, and progress bars."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError
from mmsearch.core.results import Hit, Progress

if TYPE_CHECKING:
    from tqdm.auto import tqdm

MAX_SHOWN_HITS = 60
THUMBNAIL_PX = 160


class HitList(list[Hit]):
    """A list of hits, best first; notebooks show it as a contact sheet.

    Args:
        hits: The hits.
        load_thumbnail: Returns a JPEG of a hit with a given longest side in pixels; None if the
            picture cannot be read.
    """

    def __init__(
        self, hits: Iterable[Hit], load_thumbnail: Callable[[Hit, int], bytes | None]
    ) -> None:
        super().__init__(hits)
        self._load_thumbnail = load_thumbnail

    def _repr_html_(self) -> str:
        """Return a contact sheet as HTML, which Jupyter shows in place of the list."""
        figures = "".join(self._figure(hit) for hit in self[:MAX_SHOWN_HITS])
        rest = len(self) - MAX_SHOWN_HITS
        note = f"<p>and {rest:,} more</p>" if rest > 0 else ""
        if not self:
            note = "<p>No hits.</p>"
        style = "display:flex;flex-wrap:wrap;gap:12px"
        return f'<div style="{style}">{figures}</div>{note}'

    def _figure(self, hit: Hit) -> str:
        name = escape(display_path(hit.path.name))
        jpeg = self._load_thumbnail(hit, THUMBNAIL_PX)
        if jpeg is None:
            picture = '<div style="padding:2em 0">The file cannot be read.</div>'
        else:
            url = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
            picture = f'<img src="{url}" alt="{name}" style="max-width:100%">'
        caption = f"{hit.rank}. {name}<br>{hit.score:.3f}"
        path = escape(display_path(hit.path), quote=True)
        return (
            f'<figure style="margin:0;width:{THUMBNAIL_PX}px;font-size:12px" title="{path}">'
            f"{picture}<figcaption>{caption}</figcaption></figure>"
        )


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
