"""A list of hits that notebooks show as a contact sheet."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from html import escape

from mmsearch.core.display import display_path
from mmsearch.core.results import Hit

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
