"""Contact sheets of hits in notebooks."""

import io
import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from mmsearch.core.hit_list import MAX_SHOWN_HITS, HitList
from mmsearch.core.results import Hit, Notice
from mmsearch.core.understood import Chip, Understood

HIT = Hit(
    id=1,
    rank=1,
    score=0.25,
    visual=0.25,
    text=0.0,
    matched=None,
    confidence=0.5,
    band="possible",
    path=Path("/photos/a.jpg"),
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
    copies=(),
)


@pytest.fixture(scope="module")
def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, "JPEG")
    return file.getvalue()


def test_hit_list_equals_a_list_of_its_hits(jpeg):
    assert HitList([HIT], lambda hit, edge_px: jpeg) == [HIT]


def test_hit_list_html_embeds_a_thumbnail_of_each_hit(jpeg):
    hits = HitList([HIT, replace(HIT, id=2, rank=2)], lambda hit, edge_px: jpeg)
    urls = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', hits._repr_html_())
    assert [b64decode(url) for url in urls] == [jpeg, jpeg]


def test_hit_list_html_has_labels_and_divider_and_no_scores(jpeg):
    hits = [
        replace(HIT, band="likely", confidence=0.834),
        replace(HIT, rank=2, confidence=0.4),
        replace(HIT, rank=3, band="unlikely", confidence=0.02),
    ]
    html = HitList(hits, lambda hit, edge_px: jpeg)._repr_html_()
    assert re.findall(r"<br>([^<]*)<", html) == ["likely 83%", "possible 40%", ""]
    above, below = html.split("<b>Weaker matches</b>")
    assert (above.count("<figure"), below.count("<figure")) == (2, 1)
    assert "0.25" not in html
    rough = HitList(hits, lambda hit, edge_px: jpeg, calibrated=False)._repr_html_()
    assert re.findall(r"<br>([^<]*)<", rough) == ["", "", ""]
    assert "Weaker" not in rough


def test_hit_list_html_says_for_how_many_pictures_a_hit_stands(jpeg):
    html = HitList([replace(HIT, folded=3), HIT], lambda hit, edge_px: jpeg)._repr_html_()
    assert re.findall(r"<figcaption>([^<]*)<", html) == ["1. a.jpg +3", "1. a.jpg"]


def test_hit_list_keeps_notices_and_shows_them_escaped(jpeg):
    notice = Notice("spelling", "Did you mean '<gnu>'?", "<gnu>")
    hits = HitList([HIT], lambda hit, edge_px: jpeg, notices=(notice,))
    assert hits.notices == (notice,)
    assert hits._repr_html_().startswith("<p>Did you mean &#x27;&lt;gnu&gt;&#x27;?</p>")


def test_hit_list_html_escapes_file_names(jpeg):
    hit = replace(HIT, path=Path('/photos/<img src=x onerror="alert(1)">.jpg'))
    html = HitList([hit], lambda hit, edge_px: jpeg)._repr_html_()
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;" in html


def test_hit_list_html_unreadable_picture_gets_a_note():
    html = HitList([HIT], lambda hit, edge_px: None)._repr_html_()
    assert "The file cannot be read." in html
    assert "<img" not in html


def test_hit_list_html_shows_limited_number_of_hits(jpeg):
    hits = HitList([HIT] * (MAX_SHOWN_HITS + 7), lambda hit, edge_px: jpeg)
    assert hits._repr_html_().count("<figure") == MAX_SHOWN_HITS
    assert "and 7 more" in hits._repr_html_()


def test_empty_hit_list_html_says_no_hits():
    assert "No hits." in HitList([], lambda hit, edge_px: None)._repr_html_()


def test_notebooks_show_what_was_read():
    read = Understood("", chips=(Chip("person", "<Anna>", "Anna"), Chip("date", "2019", "2019")))
    html = HitList([], lambda hit, size: None, understood=read)._repr_html_()
    assert "<p>Read as: &lt;Anna&gt;, 2019; literal=True turns this off.</p>" in html
