"""Contact sheets: the hits of a query as one image or one HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmsearch.api import Index
from mmsearch.cli.output import check_output_path, hit_date, relative_to_cwd
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError
from mmsearch.core.results import Hit, SearchResult

THUMBNAIL_PX = 256
MARGIN_PX = 12
CAPTION_HEIGHT_PX = 40
COLUMNS = 5

HTML_SUFFIXES = (".html", ".htm")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_sheet_path(path: Path) -> None:
    """Check the path of a contact sheet before anything is searched.

    Raises:
        UsageError: The suffix is not supported, or the folder does not exist.
    """
    check_output_path(path, "the contact sheet")
    if path.suffix.lower() not in (*HTML_SUFFIXES, *IMAGE_SUFFIXES):
        raise UsageError(
            f"A contact sheet cannot be written as {path.suffix or repr(path.name)}.",
            "Choose a name that ends in .html, .png, .jpg or .webp.",
        )


def write_contact_sheet(path: Path, index: Index, result: SearchResult) -> None:
    """Write the hits with ranks, scores and names.

    Args:
        path: Output file; its suffix selects the format. See `check_sheet_path`.
        index: Index that makes the thumbnails.
        result: The hits to show.
    """
    if path.suffix.lower() in HTML_SUFFIXES:
        path.write_text(_render_html(index, result), encoding="utf-8")
    else:
        _render_image(index, result).save(path)


def _render_image(index: Index, result: SearchResult) -> Image.Image:
    hits = result.hits
    columns = max(1, min(COLUMNS, len(hits)))
    rows = -(-len(hits) // columns)
    cell = THUMBNAIL_PX + MARGIN_PX
    header_height = CAPTION_HEIGHT_PX + MARGIN_PX
    width = max(columns * cell + MARGIN_PX, 2 * cell)
    sheet = Image.new(
        "RGB", (width, header_height + rows * (cell + CAPTION_HEIGHT_PX) + MARGIN_PX), "white"
    )
    draw = ImageDraw.Draw(sheet)
    title, caption = ImageFont.load_default(20), ImageFont.load_default(13)
    _draw_text(
        draw, (MARGIN_PX, MARGIN_PX), display_path(result.query), title, width - 2 * MARGIN_PX
    )
    for position, hit in enumerate(hits):
        row, column = divmod(position, columns)
        left, top = MARGIN_PX + column * cell, header_height + row * (cell + CAPTION_HEIGHT_PX)
        _paste_thumbnail(sheet, index, hit, left, top)
        line = f"{hit.rank}.  {hit.score:.3f}"
        _draw_text(draw, (left, top + THUMBNAIL_PX + 4), line, caption, THUMBNAIL_PX)
        name = display_path(hit.path.name)
        _draw_text(draw, (left, top + THUMBNAIL_PX + 20), name, caption, THUMBNAIL_PX, "#666666")
    return sheet


def _paste_thumbnail(sheet: Image.Image, index: Index, hit: Hit, left: int, top: int) -> None:
    content = index.thumbnail(hit, THUMBNAIL_PX)
    if content is None:
        corner = (left + THUMBNAIL_PX, top + THUMBNAIL_PX)
        ImageDraw.Draw(sheet).rectangle(((left, top), corner), "#eeeeee")
        return
    with Image.open(io.BytesIO(content)) as thumbnail:
        x = left + (THUMBNAIL_PX - thumbnail.width) // 2
        y = top + (THUMBNAIL_PX - thumbnail.height) // 2
        sheet.paste(thumbnail, (x, y))


def _draw_text(
    draw: ImageDraw.ImageDraw,
    position: tuple[int, int],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width_px: int,
    fill: str = "black",
) -> None:
    """Draw one line of text, shortened to a maximum width."""
    if draw.textlength(text, font=font) > width_px:
        while text and draw.textlength(text + "...", font=font) > width_px:
            text = text[:-1]
        text += "..."
    draw.text(position, text, fill=fill, font=font)


def _render_html(index: Index, result: SearchResult) -> str:
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
<p>{len(result.hits)} of {result.pictures:,} pictures, found with {_escape(result.encoder)}.</p>
<ol>
{"".join(_render_items(index, result.hits))}</ol>
</main>
</body>
</html>
"""


def _escape(value: object) -> str:
    """Escape a value for HTML; a foreign catalog may hold texts where numbers belong."""
    return html.escape(display_path(str(value)))


def _render_items(index: Index, hits: Sequence[Hit]) -> list[str]:
    items = []
    for hit in hits:
        content = index.thumbnail(hit, 2 * THUMBNAIL_PX)
        name = html.escape(display_path(relative_to_cwd(hit.path)))
        thumbnail_html = '<span class="none"></span>'
        if content:
            data_uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
            link = html.escape(hit.path.as_uri())
            thumbnail_html = f'<a href="{link}"><img src="{data_uri}" alt="{name}"></a>'
        items.append(
            f"<li>{thumbnail_html}<div><b>{hit.rank}.</b> {hit.score:.3f}</div>"
            f"<small>{name}<br>{_escape(hit.width)}&times;{_escape(hit.height)}, "
            f"{_escape(hit_date(hit.taken_at, hit.modified_at))}</small></li>\n"
        )
    return items
