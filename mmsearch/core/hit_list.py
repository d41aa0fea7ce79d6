"""Lists of hits, which notebooks show as a contact sheet."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from html import escape

from mmsearch.core.display import (
    WEAKER_MATCHES,
    display_path,
    divider_position,
    format_folded,
    format_match,
)
from mmsearch.core.results import Hit, Notice
from mmsearch.core.understood import Understood

MAX_SHOWN_HITS = 60
"""Maximum number of hits that a notebook shows."""

THUMBNAIL_PX = 160
"""Longest side of the thumbnails that a notebook shows."""


class HitList(list[Hit]):
    """A list of hits, best first; notebooks show it as a contact sheet.

    Args:
        hits: The hits.
        load_thumbnail: Returns a JPEG of a hit with a given longest side in pixels; None if the
            picture cannot be read.
        calibrated: See `SearchResult`.
        notices: See `SearchResult`.
        understood: See `SearchResult`.
    """

    def __init__(
        self,
        hits: Iterable[Hit],
        load_thumbnail: Callable[[Hit, int], bytes | None],
        *,
        calibrated: bool = True,
        notices: Sequence[Notice] = (),
        understood: Understood | None = None,
    ) -> None:
        super().__init__(hits)
        self._load_thumbnail = load_thumbnail
        self.calibrated = calibrated
        self.notices = notices
        self.understood = understood

    def _repr_html_(self) -> str:
        """Return a contact sheet as HTML, which Jupyter shows in place of the list."""
        shown = self[:MAX_SHOWN_HITS]
        labels = [format_match(h.band, h.confidence, calibrated=self.calibrated) for h in shown]
        figures = [self._figure(hit, label) for hit, label in zip(shown, labels, strict=True)]
        divider = divider_position([hit.rank for hit in shown], labels)
        if divider is not None:
            figures.insert(divider, f'<div style="flex:0 0 100%"><b>{WEAKER_MATCHES}</b></div>')
        rest = len(self) - MAX_SHOWN_HITS
        note = f"<p>and {rest:,} more</p>" if rest > 0 else ""
        if not self:
            note = "<p>No hits.</p>"
        notices = "".join(f"<p>{escape(display_path(each.text))}</p>" for each in self.notices)
        if self.understood is not None:
            line = escape(display_path(self.understood.line))
            notices = f"<p>Read as: {line}; literal=True turns this off.</p>{notices}"
        style = "display:flex;flex-wrap:wrap;gap:12px"
        return f'{notices}<div style="{style}">{"".join(figures)}</div>{note}'

    def _figure(self, hit: Hit, label: str) -> str:
        name = escape(" ".join(filter(None, (display_path(hit.path.name), hit.position))))
        jpeg = self._load_thumbnail(hit, THUMBNAIL_PX)
        if jpeg is None:
            picture = '<div style="padding:2em 0">The file cannot be read.</div>'
        else:
            url = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
            picture = f'<img src="{url}" alt="{name}" style="max-width:100%">'
        caption = " ".join(filter(None, (f"{hit.rank}. {name}", format_folded(hit.folded))))
        caption = f"{caption}<br>{label}"
        path = escape(display_path(hit.path), quote=True)
        return (
            f'<figure style="margin:0;width:{THUMBNAIL_PX}px;font-size:12px" title="{path}">'
            f"{picture}<figcaption>{caption}</figcaption></figure>"
        )
