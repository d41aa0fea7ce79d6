"""Contact sheets: words and bars instead of scores, a divider, notices and matched texts."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mmsearch.cli.contact_sheet import BAR_COLORS, THUMBNAIL_PX, write_contact_sheet
from mmsearch.core.query import Band, MatchedText, Mode
from mmsearch.core.results import Hit, Notice, SearchResult

CAPTION = "The old windmill <i> of my grandfather, on a hill in the north, with a very long story"


class RedPictures:
    name = "default"

    def thumbnail(self, hit, edge_px):
        file = io.BytesIO()
        Image.new("RGB", (THUMBNAIL_PX, THUMBNAIL_PX), "red").save(file, "JPEG")
        return file.getvalue()


def hit(rank, band=Band.UNLIKELY, confidence=0.02):
    return Hit(
        id=rank,
        rank=rank,
        score=0.4375,
        visual=0.4375,
        text=0.0,
        matched=None,
        confidence=confidence,
        band=band,
        path=Path(f"/photos/{rank}.jpg"),
        width=8,
        height=8,
        format="JPEG",
        taken_at=None,
        camera=None,
        latitude=None,
        longitude=None,
        modified_at=0.0,
        size_bytes=1,
        texts=(),
    )


def result(*hits, **more):
    facts = {
        "query": "a <windmill>",
        "mode": Mode.VECTOR,
        "hits": hits,
        "match": Band.LIKELY,
        "calibrated": True,
        "generation": 1,
        "pictures": 212,
        "passed": 212,
        "encoder": "starter",
        "timings_s": {},
        "dropped_tokens": 0,
        "devices": {},
    }
    return SearchResult(**(facts | more))


LIKELY, POSSIBLE = hit(1, Band.LIKELY, 0.834), hit(2, Band.POSSIBLE, 0.4)


@pytest.fixture
def page(tmp_path):
    def render(found):
        write_contact_sheet(tmp_path / "sheet.html", RedPictures(), found)
        return (tmp_path / "sheet.html").read_text(encoding="utf-8")

    return render


@pytest.fixture
def picture(tmp_path):
    def render(found):
        write_contact_sheet(tmp_path / "sheet.png", RedPictures(), found)
        with Image.open(tmp_path / "sheet.png") as image:
            return image.convert("RGB")

    return render


def test_page_has_words_bars_and_divider_and_no_scores(page):
    html = page(result(LIKELY, POSSIBLE, hit(3)))
    assert re.findall(r"<b>(\d\.)</b> ([^<]*)<", html) == [
        ("1.", "likely 83%"),
        ("2.", "possible 40%"),
        ("3.", ""),
    ]
    bars = re.findall(r'aria-hidden="true">.*?<rect class="(\w+)" width="(\d+)"', html)
    assert bars == [("likely", "83"), ("possible", "40")]
    above, below = html.split("<h2>Weaker matches</h2>")
    assert "/2.jpg" in above
    assert "/3.jpg" in below
    assert "0.43" not in html
    assert "<title>a &lt;windmill&gt;</title>" in html
    assert "@media (prefers-color-scheme: dark)" in html


@pytest.mark.parametrize(
    "found",
    [
        result(LIKELY, POSSIBLE),
        result(hit(1), hit(2), match=Band.UNLIKELY),
        result(POSSIBLE, LIKELY, hit(3)),
        result(LIKELY, hit(2), calibrated=False),
        result(),
    ],
)
def test_sheet_without_weaker_matches_has_no_divider(page, found):
    html = page(found)
    assert "Weaker" not in html
    assert html.count("<ol>") == 1


def test_model_without_calibration_gets_neither_words_nor_bars(page):
    html = page(result(LIKELY, hit(2), calibrated=False))
    assert "%<" not in html
    assert "likely 83" not in html
    assert "<svg" not in html


def test_page_shows_notices_once_and_escaped(page):
    guesses = Notice("best_guesses", "Best guesses: the model does not know '<gnu>' well.")
    html = page(result(hit(1), match=Band.UNLIKELY, notices=(guesses,)))
    assert html.count("Best guesses: the model does not know &#x27;&lt;gnu&gt;&#x27; well.") == 1
    assert "No good matches" not in html
    assert "No good matches. Closest results:" in page(result(hit(1), match=Band.UNLIKELY))


def test_page_marks_words_in_short_matched_text(page):
    matched = MatchedText("caption", None, CAPTION, ((8, 16),))
    html = page(result(replace(LIKELY, matched=matched)))
    assert "<br>The old <mark>windmill</mark> &lt;i&gt; of my grandfather" in html
    assert "story" not in html
    assert html.count("…") == 1


def test_page_links_to_the_second_and_to_the_page(page):
    moment = replace(hit(1), start_ms=42_500, end_ms=48_000)
    html = page(result(moment, replace(hit(2), page=17)))
    assert "1.jpg#t=42.5" in html
    assert "1.jpg 0:42" in html
    assert "2.jpg#page=17" in html
    assert "2.jpg p. 17" in html


def test_page_shows_no_size_of_a_sound(page):
    html = page(result(replace(hit(1), width=0, height=0, kind="sound")))
    assert "&times;" not in html


def bar_widths(image):
    """Return the length in pixels of each colored bar in the first row."""
    pixels = [image.getpixel((x, 48 + THUMBNAIL_PX + 3)) for x in range(image.width)]
    return [
        pixels.count(tuple(bytes.fromhex(BAR_COLORS[band][1:]))) for band in ("likely", "possible")
    ]


def test_image_has_bars_of_confidence_and_line_above_weaker_matches(picture):
    image = picture(result(LIKELY, POSSIBLE, hit(3)))
    assert bar_widths(image) == [round(0.834 * THUMBNAIL_PX) + 1, round(0.4 * THUMBNAIL_PX) + 1]
    lines = [y for y in range(image.height) if image.getpixel((14, y)) == (0x99, 0x99, 0x99)]
    assert len(lines) == 1
    red = [
        y
        for y in range(image.height)
        if image.getpixel((140, y))[0] > 250 > image.getpixel((140, y))[1]
    ]
    assert min(red) < lines[0] < max(red)


def test_image_without_calibration_has_no_bars(picture):
    assert bar_widths(picture(result(LIKELY, hit(2), calibrated=False))) == [0, 0]


def test_image_with_notices_is_higher_by_their_lines(picture):
    plain = picture(result(LIKELY))
    noted = picture(result(LIKELY, notices=(Notice("spelling", "Did you mean 'gnu'?", "gnu"),)))
    assert noted.height > plain.height
    assert picture(result(match=Band.UNLIKELY)).size[0] > 2 * THUMBNAIL_PX


@pytest.mark.parametrize(
    ("path", "uri", "link"),
    [
        ("/photos/1.jpg", "", "file:///photos/1.jpg"),
        ("https:/shop.example/1.jpg", "https://shop.example/1.jpg", "https://shop.example/1.jpg"),
        ("sku-1", "sku-1", None),
        ("/photos/all.tar/1.jpg", "/photos/all.tar/1.jpg", None),
        ("javascript:alert(1)", "javascript:alert(1)", None),
    ],
)
def test_sheet_html_links_only_files_and_pages(path, uri, link, tmp_path):
    sheet = tmp_path / "sheet.html"
    found = replace(hit(1), path=Path(path), uri=uri)
    write_contact_sheet(sheet, RedPictures(), result(found))
    text = sheet.read_text(encoding="utf-8")
    assert re.findall(r'href="([^"]*)"', text) == ([link] if link else [])
    assert f'alt="{uri or path}"' in text
