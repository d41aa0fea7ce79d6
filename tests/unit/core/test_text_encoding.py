"""The encoding of short tables in many languages."""

# ruff: noqa: RUF001 - letters of many languages

import codecs

import pytest

from mmsearch.core.text_encoding import detect_encoding

CAPTIONS = [
    ("cp1252", "Windows-1252", "ein Hund auf der Straße"),
    ("cp1252", "Windows-1252", "GRÜSSE AUS MÜNCHEN"),
    ("cp1252", "Windows-1252", "Café"),
    ("cp1252", "Windows-1252", "São Paulo"),
    ("cp1252", "Windows-1252", "El Niño\n¿Dónde?"),
    ("cp1252", "Windows-1252", "l’élève près du château\nà la carte\nœuvre d’art"),
    ("cp1252", "Windows-1252", "Tromsø\nÅlesund\nÆrø"),
    ("cp1252", "Windows-1252", "sjö på hösten"),
    ("cp1252", "Windows-1252", "don’t\na “red” car\ndog – wet\n20 °C\n5 €\n© 2019\nLego™ set"),
    ("cp1252", "Windows-1252", "© 2019\n" * 50),
    ("cp1252", "Windows-1252", "Rex’s ball\n" * 50),
    ("cp1250", "Windows-1250", "Dvořák u řeky\nšťastný pes"),
    ("cp1250", "Windows-1250", "żółty samochód"),
    ("cp1250", "Windows-1250", "őszi erdő, piros autó, kutya a hóban, gyönyörű táj"),
    ("iso8859_2", "ISO-8859-2", "žlutý kůň\nšedá kočka"),
    ("cp1251", "Windows-1251", "собака на пляже"),
    ("cp1251", "Windows-1251", "КРАСНАЯ ПЛОЩАДЬ"),
    ("cp1251", "Windows-1251", "червоне авто\nКиїв"),
    ("cp1253", "Windows-1253", "ένα παιδί στην παραλία"),
    ("cp1254", "Windows-1254", "güneşli bir gün\nkırmızı araba"),
    ("cp1255", "Windows-1255", "ילד על החוף"),
    ("cp1256", "Windows-1256", "قطة سوداء"),
    ("cp932", "Shift-JIS", "海辺の犬"),
    ("cp932", "Shift-JIS", "富士山"),
    ("gb18030", "GB18030", "海滩上的狗"),
    ("gb18030", "GB18030", "北京"),
    ("big5", "Big5", "日月潭的早晨"),
    ("cp949", "EUC-KR", "해변의 개"),
    ("mac_roman", "Mac Roman", "schöne Grüße aus Köln"),
    ("cp850", "DOS-850", "schöne Grüße aus Köln"),
]


def detect(tmp_path, content):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    return detect_encoding(path)


@pytest.mark.parametrize(("codec", "label", "captions"), CAPTIONS)
def test_short_table_is_decoded_as_it_was_written(tmp_path, codec, label, captions):
    rows = "".join(f"IMG_{at}.jpg;{line}\r\n" for at, line in enumerate(captions.split("\n")))
    content = f"path;caption\r\n{rows}".encode(codec)
    found = detect(tmp_path, content)
    assert (found.label, content.decode(found.codec)) == (label, f"path;caption\r\n{rows}")


@pytest.mark.parametrize(
    ("codec", "bom", "label"),
    [
        ("utf-8", b"", "UTF-8"),
        ("utf-8", codecs.BOM_UTF8, "UTF-8"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("utf-16-le", b"", "UTF-16"),
        ("utf-16-be", b"", "UTF-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "UTF-32"),
    ],
)
@pytest.mark.parametrize("caption", ["Straße", "собака", "海滩上的狗", "plain", "😀"])
def test_unicode_is_recognized_with_and_without_byte_order_mark(
    tmp_path, codec, bom, label, caption
):
    text = f"path,caption\na.jpg,{caption}\n"
    path = tmp_path / "table.csv"
    path.write_bytes(bom + text.encode(codec))
    found = detect_encoding(path)
    assert found.label == label
    assert path.read_text(found.codec) == text


def test_bytes_beyond_ascii_far_behind_the_start_decide(tmp_path):
    content = b"a.jpg,plain\n" * 200_000 + "b.jpg,Käse in Köln\n".encode("cp1252")
    assert detect(tmp_path, content).label == "Windows-1252"
    assert detect(tmp_path, content[:-15] + "Käse\n".encode()).label == "UTF-8"


def test_utf8_with_single_windows_1252_rows_is_read_as_both(tmp_path):
    content = "Käse, Straße, Grüße, Köln, über, schön\n".encode() + "café\n".encode("cp1252")
    found = detect(tmp_path, content)
    assert found.label == "UTF-8 with parts in Windows-1252"
    assert content.decode(found.codec, found.errors).endswith("schön\ncafé\n")


def test_undefined_byte_does_not_stop_windows_1252(tmp_path):
    content = "Käse in Köln\n".encode("cp1252") + b"\x81\n"
    found = detect(tmp_path, content)
    assert content.decode(found.codec, found.errors) == "Käse in Köln\n\ufffd\n"
