"""Contact sheets: the hits of a query as one picture or one page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmsearch.api import Index
from mmsearch.cli.output import date_of, relative
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError
from mmsearch.core.requests import Hit, SearchResult

THUMBNAIL_PX = 256
MARGIN_PX = 12
CAPTION_PX = 40
COLUMNS = 5


def write_sheet(path: Path, index: Index, result: SearchResult) -> None:
    """Write the hits with ranks, scores and names.

    Args:
        path: Its ending chooses the form: .html, .png, .jpg or .webp.
        index: Makes the thumbnails.
        result: The hits.

    Raises:
        UsageError: Another ending, or a folder that does not exist.
    """
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} for the contact sheet.")
    suffix = path.suffix.lower()
    if suffix in (".html", ".htm"):
        path.write_text(_page(index, result), encoding="utf-8")
    elif suffix in (".png", ".jpg", ".jpeg", ".webp"):
        _picture(index, result).save(path)
    else:
        raise UsageError(
            f"A contact sheet cannot be written as {path.suffix or path.name!r}.",
            "Choose a name that ends in .html, .png, .jpg or .webp.",
        )


def _picture(index: Index, result: SearchResult) -> Image.Image:
    hits = result.hits
    columns = max(1, min(COLUMNS, len(hits)))
    rows = -(-len(hits) // columns)
    cell = THUMBNAIL_PX + MARGIN_PX
    head = CAPTION_PX + MARGIN_PX
    width = max(columns * cell + MARGIN_PX, 2 * cell)
    sheet = Image.new("RGB", (width, head + rows * (cell + CAPTION_PX) + MARGIN_PX), "white")
    draw = ImageDraw.Draw(sheet)
    title, caption = ImageFont.load_default(20), ImageFont.load_default(13)
    _text(draw, (MARGIN_PX, MARGIN_PX), display_path(result.query), title, width - 2 * MARGIN_PX)
    for place, hit in enumerate(hits):
        row, column = divmod(place, columns)
        left, top = MARGIN_PX + column * cell, head + row * (cell + CAPTION_PX)
        _thumbnail(sheet, index, hit, left, top)
        line = f"{hit.rank}.  {hit.score:.3f}"
        _text(draw, (left, top + THUMBNAIL_PX + 4), line, caption, THUMBNAIL_PX)
        name = display_path(hit.path.name)
        _text(draw, (left, top + THUMBNAIL_PX + 20), name, caption, THUMBNAIL_PX, "#666666")
    return sheet


def _thumbnail(sheet: Image.Image, index: Index, hit: Hit, left: int, top: int) -> None:
    content = index.thumbnail(hit, THUMBNAIL_PX)
    if content is None:
        corner = (left + THUMBNAIL_PX, top + THUMBNAIL_PX)
        ImageDraw.Draw(sheet).rectangle(((left, top), corner), "#eeeeee")
        return
    with Image.open(io.BytesIO(content)) as thumbnail:
        x = left + (THUMBNAIL_PX - thumbnail.width) // 2
        y = top + (THUMBNAIL_PX - thumbnail.height) // 2
        sheet.paste(thumbnail, (x, y))


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
    fill: str = "black",
) -> None:
    """One line, shortened to the width that there is."""
    if draw.textlength(text, font=font) > width_px:
        while text and draw.textlength(text + "...", font=font) > width_px:
            text = text[:-1]
        text += "..."
    draw.text(place, text, fill=fill, font=font)


def _page(index: Index, result: SearchResult) -> str:
    query = html.escape(display_path(result.query))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="description" content="The pictures that a query found, with their scores.">
<title>{query}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1.5rem;
     list-style: none; padding: 0 }}
img {{ width: 100%; height: 16rem; object-fit: contain; background: #f4f4f4 }}
.none {{ display: block; height: 16rem; background: #f4f4f4 }}
small {{ color: #666; overflow-wrap: anywhere }}
</style>
</head>
<body>
<main>
<h1>{query}</h1>
<p>{len(result.hits)} of {result.pictures:,} pictures, found with {_escaped(result.encoder)}.</p>
<ol>
{"".join(_items(index, result.hits))}</ol>
</main>
</body>
</html>
"""


def _escaped(value: object) -> str:
    """As text of a page: a catalog may be anybody's, and hold texts where numbers belong."""
    return html.escape(display_path(str(value)))


def _items(index: Index, hits: Sequence[Hit]) -> list[str]:
    items = []
    for hit in hits:
        content = index.thumbnail(hit, 2 * THUMBNAIL_PX)
        name = html.escape(display_path(relative(hit.path)))
        shown = '<span class="none"></span>'
        if content:
            source = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
            link = html.escape(hit.path.as_uri())
            shown = f'<a href="{link}"><img src="{source}" alt="{name}"></a>'
        items.append(
            f"<li>{shown}<div><b>{hit.rank}.</b> {hit.score:.3f}</div>"
            f"<small>{name}<br>{_escaped(hit.width)}&times;{_escaped(hit.height)}, "
            f"{_escaped(date_of(hit))}</small></li>\n"
        )
    return items
