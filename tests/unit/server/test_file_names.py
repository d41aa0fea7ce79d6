"""Tests of the names under which browsers save pictures."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.server.file_names import content_disposition, original_name, thumbnail_name


@pytest.mark.parametrize(
    ("path", "name", "thumbnail", "ascii_name"),
    [
        (b"/p/2019/IMG_1.JPG", "IMG_1.JPG", "IMG_1.webp", "IMG_1.JPG"),
        ("/p/Zoë's Café.jpg".encode(), "Zoë's Café.jpg", "Zoë's Café.webp", "Zoe's Cafe.jpg"),
        # The same name in another normal form.
        (b"/p/Zoe\xcc\x88.jpg", "Zoe\u0308.jpg", "Zoe\u0308.webp", "Zoe.jpg"),
        ("/p/写真.png".encode(), "写真.png", "写真.webp", "__.png"),
        ("/p/🐻.gif".encode(), "🐻.gif", "🐻.webp", "_.gif"),
        (b'/p/say "hi"; a=b.jpg', 'say "hi"; a=b.jpg', 'say "hi"; a=b.webp', "say _hi_; a=b.jpg"),
        (b"/p/a\r\nSet-Cookie: x.jpg", "a__Set-Cookie: x.jpg", "a__Set-Cookie: x.webp", None),
        (b"/p/..\\..\\boot.jpg", ".._.._boot.jpg", ".._.._boot.webp", ".._.._boot.jpg"),
        (b"/p/50% off.jpg", "50% off.jpg", "50% off.webp", "50_ off.jpg"),
        (b"/p/%2e%2e%2fx.jpg", "%2e%2e%2fx.jpg", "%2e%2e%2fx.webp", "_2e_2e_2fx.jpg"),
        (b"/p/caf\xe9.jpg", "caf_.jpg", "caf_.webp", "caf_.jpg"),
        # A slash of full width is no separator, but its ASCII form would be one.
        ("/p/a\uff0fb.jpg".encode(), "a\uff0fb.jpg", "a\uff0fb.webp", "a_b.jpg"),
        # The system of a Mac writes such a space into the names of screenshots.
        (
            "/p/at 9.41\u202fAM.png".encode(),
            "at 9.41\u202fAM.png",
            "at 9.41\u202fAM.webp",
            "at 9.41 AM.png",
        ),
        (
            "/p/\U0001f43b\u200d\u2744.gif".encode(),
            "\U0001f43b\u200d\u2744.gif",
            "\U0001f43b\u200d\u2744.webp",
            "___.gif",
        ),
        (b"/p/a\x00b\x7f\xc2\x85c.jpg", "a_b__c.jpg", "a_b__c.webp", "a_b__c.jpg"),
        # Text from right to left could hide the ending.
        ("/p/a\u202egpj.exe".encode(), "a_gpj.exe", "a_gpj.webp", "a_gpj.exe"),
        (b"/p/scan", "scan", "scan.webp", "scan"),
        (b"/p/.jpg", ".jpg", ".jpg.webp", ".jpg"),
        (b"/p/a.", "a.", "a.webp", "a."),
        (b"/p/photo.2019-05-17", "photo.2019-05-17", "photo.2019-05-17.webp", None),
        (b"/p/x.jpg_large", "x.jpg_large", "x.webp", "x.jpg_large"),
    ],
)
def test_content_disposition_names_file_in_unicode_and_ascii(path, name, thumbnail, ascii_name):
    assert original_name(path) == name
    assert thumbnail_name(path) == thumbnail
    value = content_disposition(name)
    plain, extended = re.fullmatch(
        r"inline; filename=\"([^\"\\]*)\"; filename\*=UTF-8''(\S+)", value
    ).groups()
    assert plain == (name if ascii_name is None else ascii_name)
    assert unquote(extended, errors="strict") == name
    download = content_disposition(name, download=True)
    assert download == value.replace("inline", "attachment", 1)


def test_thumbnail_name_of_longest_name_is_cut_at_a_character():
    assert thumbnail_name(b"/p/" + b"a" * 251 + b".jpg") == "a" * 250 + ".webp"
    assert thumbnail_name(b"/p/" + b"a" * 255) == "a" * 250 + ".webp"
    name = thumbnail_name(b"/p/" + "写".encode() * 85)
    assert name == "写" * 83 + ".webp"
    assert len(original_name(b"/p/" + b"a" * 255)) == 255


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name))
def test_content_disposition_of_any_name_is_one_safe_header(name):
    for shown in (original_name(b"/p/" + name), thumbnail_name(b"/p/" + name)):
        value = content_disposition(shown)
        assert value.isascii()
        assert value.isprintable()
        assert value.count('"') == 2
        assert not set("/\\").intersection(shown)
    assert len(thumbnail_name(b"/p/" + name).encode()) <= 255
