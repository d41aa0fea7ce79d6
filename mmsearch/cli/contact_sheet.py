"""Contact sheets: the hits of a query as one image or one HTML page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mmsearch.api import FederatedIndex, Index
from mmsearch.cli.output import (
    check_output_path,
    describe_match,
    format_location,
    hit_date,
)
from mmsearch.core.display import (
    WEAKER_MATCHES,
    display_path,
    divider_position,
    excerpt,
    format_folded,
    format_match,
)
from mmsearch.core.errors import UsageError
from mmsearch.core.results import Hit, SearchResult

THUMBNAIL_PX = 256
MARGIN_PX = 12
LINE_HEIGHT_PX = 18
CAPTION_HEIGHT_PX = 64
BAR_HEIGHT_PX = 4
COLUMNS = 5

BAR_COLORS = {"likely": "#0b6b5b", "possible": "#b58900"}
"""Colors of the bars that show the confidence of labeled hits."""

TEXT_LENGTH = 80
"""Maximum number of characters of a matched text."""

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


def write_contact_sheet(path: Path, index: Index | FederatedIndex, result: SearchResult) -> None:
    """Write the hits with labels, names and matched texts; a divider precedes weaker matches.

    Args:
        path: Output file; its suffix selects the format. See `check_sheet_path`.
        index: Index | FederatedIndex that makes the thumbnails.
        result: The hits to show.
    """
    if path.suffix.lower() in HTML_SUFFIXES:
        path.write_text(_render_html(index, result), encoding="utf-8")
    else:
        _render_image(index, result).save(path)


def _label(hit: Hit, result: SearchResult) -> str:
    return format_match(hit.band, hit.confidence, calibrated=result.calibrated)


def _sections(result: SearchResult) -> list[tuple[str, Sequence[Hit]]]:
    """Return the heading and the hits of each section; the first one has no heading."""
    hits = result.hits
    labels = [_label(hit, result) for hit in hits]
    divider = divider_position([hit.rank for hit in hits], labels)
    if divider is None:
        return [("", hits)]
    return [("", hits[:divider]), (WEAKER_MATCHES, hits[divider:])]


def _notices(index: Index | FederatedIndex, result: SearchResult) -> list[str]:
    lines = describe_match(result.to_dict(), index.name, shows_labels=False)
    return [display_path(line) for line in (*lines, *(notice.text for notice in result.notices))]


def _matched_excerpt(hit: Hit) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return an excerpt of the matched text, and the spans of the query's words in it."""
    return ("", ()) if hit.matched is None else excerpt(vars(hit.matched), TEXT_LENGTH)


def _render_image(index: Index | FederatedIndex, result: SearchResult) -> Image.Image:
    columns = max(1, min(COLUMNS, len(result.hits)))
    cell = THUMBNAIL_PX + MARGIN_PX
    cell_height = cell + CAPTION_HEIGHT_PX
    notices, sections = _notices(index, result), _sections(result)
    width = max(columns * cell + MARGIN_PX, 2 * cell)
    height = 3 * MARGIN_PX + 2 * LINE_HEIGHT_PX + len(notices) * LINE_HEIGHT_PX
    for heading, hits in sections:
        height += -(-len(hits) // columns) * cell_height + (3 * LINE_HEIGHT_PX if heading else 0)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    title, caption = ImageFont.load_default(20), ImageFont.load_default(13)

    def write(left: int, top: int, text: str, fill: str = "black", columns: int = 1) -> None:
        _draw_text(draw, (left, top), text, caption, columns * cell - MARGIN_PX, fill)

    top = MARGIN_PX
    _draw_text(draw, (MARGIN_PX, top), display_path(result.query), title, width - 2 * MARGIN_PX)
    top += 2 * LINE_HEIGHT_PX
    for line in notices:
        write(MARGIN_PX, top, line, columns=width // cell)
        top += LINE_HEIGHT_PX
    for heading, hits in sections:
        if heading:
            draw.line(((MARGIN_PX, top), (width - MARGIN_PX, top)), "#999999")
            write(MARGIN_PX, top + LINE_HEIGHT_PX, heading)
            top += 3 * LINE_HEIGHT_PX
        for position, hit in enumerate(hits):
            row, column = divmod(position, columns)
            left, below = MARGIN_PX + column * cell, top + row * cell_height + THUMBNAIL_PX + 2
            label = _label(hit, result)
            _paste_thumbnail(sheet, index, hit, left, top + row * cell_height)
            if label:
                _draw_bar(draw, (left, below), hit)
            parts = (display_path(hit.path.name), hit.position, format_folded(hit.folded))
            name = " ".join(filter(None, parts))
            lines = (f"{hit.rank}. {label}", name, _matched_excerpt(hit)[0])
            for number, line in enumerate(map(display_path, lines)):
                fill = "#595959" if number else "black"
                write(left, below + BAR_HEIGHT_PX + 2 + number * LINE_HEIGHT_PX, line, fill)
        top += -(-len(hits) // columns) * cell_height
    return sheet


def _draw_bar(draw: ImageDraw.ImageDraw, position: tuple[int, int], hit: Hit) -> None:
    left, top = position
    for fraction, fill in ((1.0, "#dddddd"), (hit.confidence, BAR_COLORS[hit.band])):
        right = left + round(fraction * THUMBNAIL_PX)
        draw.rectangle(((left, top), (right, top + BAR_HEIGHT_PX - 1)), fill)


def _paste_thumbnail(
    sheet: Image.Image, index: Index | FederatedIndex, hit: Hit, left: int, top: int
) -> None:
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


def _render_html(index: Index | FederatedIndex, result: SearchResult) -> str:
    query = html.escape(display_path(result.query))
    sections = ""
    for heading, hits in _sections(result):
        sections += f"<h2>{heading}</h2>\n" if heading else ""
        sections += f"<ol>\n{''.join(_render_items(index, result, hits))}</ol>\n"
    notices = "".join(f'<p class="notice">{html.escape(n)}</p>\n' for n in _notices(index, result))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<meta name="description" content="The pictures that a query found.">
<title>{query}</title>
<style>
:root {{ color-scheme: light dark; --ground: #fff; --ink: #222; --quiet: #595959; --frame: #f4f4f4;
     --track: #ddd; --likely: {BAR_COLORS["likely"]}; --possible: {BAR_COLORS["possible"]};
     --link: #0b6b5b }}
@media (prefers-color-scheme: dark) {{ :root {{ --ground: #151514; --ink: #eceae5;
     --quiet: #b0aca3; --frame: #21211f; --track: #3b3a36; --likely: #6fd3bd; --possible: #e3b341;
     --link: #6fd3bd }} }}
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: var(--ink);
     background: var(--ground); overflow-wrap: anywhere }}
h2 {{ font-size: 1.1rem; border-top: 1px solid var(--quiet); padding-top: .8rem }}
ol {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr));
     gap: 1.5rem; list-style: none; padding: 0 }}
a {{ color: var(--link) }}
img {{ width: 100%; height: 16rem; object-fit: contain; background: var(--frame) }}
svg {{ display: block; width: 100%; height: 4px }}
rect {{ fill: var(--track) }}
rect.likely {{ fill: var(--likely) }}
rect.possible {{ fill: var(--possible) }}
mark {{ background: none; color: inherit; font-weight: 700 }}
.none {{ display: block; height: 16rem; background: var(--frame) }}
.notice {{ font-weight: 600 }}
small {{ color: var(--quiet) }}
</style>
</head>
<body>
<main>
<h1>{query}</h1>
<p>{len(result.hits)} of {result.pictures:,} pictures, found with {_escape(result.encoder)}.</p>
{notices}{sections}</main>
</body>
</html>
"""


def _escape(value: object) -> str:
    """Escape a value for HTML; a foreign catalog may hold texts where numbers belong."""
    return html.escape(display_path(str(value)))


def _render_items(
    index: Index | FederatedIndex, result: SearchResult, hits: Sequence[Hit]
) -> list[str]:
    items = []
    for hit in hits:
        content = index.thumbnail(hit, 2 * THUMBNAIL_PX)
        position = f" {hit.position}" if hit.position else ""
        name = html.escape(f"{format_location(hit.location)}{position}")
        folded = f" <b>{format_folded(hit.folded)}</b>" if hit.folded else ""
        thumbnail_html = '<span class="none"></span>'
        if content:
            data_uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
            thumbnail_html = f'<img src="{data_uri}" alt="{name}">'
            if link := _find_link(hit):
                thumbnail_html = f'<a href="{html.escape(link)}">{thumbnail_html}</a>'
        items.append(
            f"<li>{thumbnail_html}{_render_label(hit, result)}"
            f"<small>{name}{folded}<br>{_render_size(hit)}"
            f"{_escape(hit_date(hit.taken_at, hit.modified_at))}{_render_matched(hit)}</small>"
            "</li>\n"
        )
    return items


def _render_size(hit: Hit) -> str:
    """Return width and height; "" for a sound, and for a picture of unknown size."""
    return f"{_escape(hit.width)}&times;{_escape(hit.height)}, " if hit.width else ""


def _find_link(hit: Hit) -> str:
    """Return the URI of a file or of a page of the web that shows a picture, or ""."""
    if not hit.uri or hit.path.is_file():
        return hit.path.as_uri() + _fragment(hit)
    return f"{hit.uri}{_fragment(hit)}" if hit.uri.startswith(("https://", "http://")) else ""


def _fragment(hit: Hit) -> str:
    """Return the part of a URI that names a moment (W3C Media Fragments) or a page (RFC 8118)."""
    if hit.page is not None:
        return f"#page={hit.page}"
    return "" if hit.start_s is None else f"#t={hit.start_s:g}"


def _render_label(hit: Hit, result: SearchResult) -> str:
    """Return the rank and the label of a hit, with a bar that readers of the screen skip."""
    label = _label(hit, result)
    bar = (
        '<svg viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="100" height="4"/><rect class="{hit.band}" '
        f'width="{100 * hit.confidence:.0f}" height="4"/></svg>'
    )
    return f"{bar if label else ''}<div><b>{hit.rank}.</b> {label}</div>"


def _render_matched(hit: Hit) -> str:
    text, spans = _matched_excerpt(hit)
    rendered, end = "", 0
    for start, stop in spans:
        rendered += f"{_escape(text[end:start])}<mark>{_escape(text[start:stop])}</mark>"
        end = stop
    return f"<br>{rendered}{_escape(text[end:])}" if text else ""
