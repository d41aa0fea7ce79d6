"""SVG drawings: size, background, texts, and drawings that refer to other files."""

import base64
import gzip
import os
import socket

import numpy as np
import pytest
from PIL import Image

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Text
from mmsearch.modalities import svg

XMLNS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def drawing(attributes, body="", head=""):
    return f"{head}<svg {XMLNS} {attributes}>{body}</svg>".encode()


@pytest.fixture
def read(tmp_path):
    def read(content, edge_px=0, max_pixels=1_000_000):
        path = tmp_path / "drawing.svg"
        path.write_bytes(content)
        return svg.build(max_pixels).read(os.fsencode(path), edge_px)

    return read


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ('width="640" height="480"', (640, 480)),
        ('width="640px" height="480px" viewBox="0 0 64 48"', (640, 480)),
        ('width="20cm" height="100mm"', (756, 378)),
        ('width="10in" height="720pt"', (960, 960)),
        ('viewBox="0 0 24 12"', (512, 256)),
        ('width="24" height="24"', (512, 512)),
        ('width="100%" height="100%" viewBox="0,0,800,600"', (800, 600)),
        ('width="600" viewBox="0 0 2 3"', (600, 900)),
        ('height="600" viewBox="0 0 2 3"', (400, 600)),
        ("", (512, 256)),
        ('width="0" height="-5" viewBox="0 0 nan 7"', (512, 256)),
    ],
)
def test_svg_has_size_that_it_states_and_icons_are_enlarged(read, attributes, size):
    decoded = read(drawing(attributes, '<rect width="100%" height="100%" fill="red"/>'))
    assert (decoded.picture.width, decoded.picture.height, decoded.picture.format) == (*size, "SVG")
    assert decoded.pixels.shape == (size[1], size[0], 3)
    assert (decoded.pixels[size[1] // 2, size[0] // 2] == (255, 0, 0)).all()
    assert read(drawing(attributes), 100).picture == decoded.picture


def test_svg_is_drawn_over_white_and_smaller_if_asked_to(read):
    content = drawing('width="640" height="480"', '<rect width="320" height="480" fill="#00f"/>')
    for edge_px, shape in ((0, (480, 640)), (120, (120, 160)), (5000, (480, 640))):
        pixels = read(content, edge_px).pixels
        assert pixels.shape[:2] == shape
        assert (pixels[shape[0] // 2, shape[1] // 4] == (0, 0, 255)).all()
        assert (pixels[shape[0] // 2, shape[1] * 3 // 4] == 255).all()


def test_svg_title_and_description_are_its_texts(read):
    body = "<title>A\n dog</title><desc>runs</desc><g><title>not this one</title></g>"
    picture = read(drawing('width="9" height="9"', body)).picture
    assert picture.texts == (Text("title", "A dog"), Text("description", "runs"))


def test_packed_svg_is_read(read):
    assert read(gzip.compress(drawing('width="600" height="600"'))).picture.width == 600


def test_svg_with_doctype_and_entities_is_read(read):
    head = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" '
        '"http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd" [<!ENTITY colour "lime">]>'
    )
    body = '<rect width="600" height="600" fill="&colour;"/>'
    pixels = read(drawing('width="600" height="600"', body, head)).pixels
    assert (pixels[300, 300] == (0, 255, 0)).all()


def links(path):
    """Return drawings that try to show a blue picture beside them."""
    inner = drawing(
        'width="600" height="600"', f'<image xlink:href="{path}" width="600" height="600"/>'
    )
    nested = "data:image/svg+xml;base64," + base64.b64encode(inner).decode()
    image = '<image {} width="600" height="600"/>'
    return {
        "absolute": image.format(f'xlink:href="{path}"'),
        "plain href": image.format(f'href="{path}"'),
        "relative": image.format('href="blue.png"'),
        "file URL": image.format(f'href="file://{path}"'),
        "space": image.format(f'href=" {path}"'),
        "nested": image.format(f'href="{nested}"'),
        "filter": f'<filter id="f"><feImage xlink:href="{path}"/></filter>'
        '<rect width="600" height="600" filter="url(#f)" fill="white"/>',
        "use": f'<use href="{path}#x"/>',
    }


@pytest.mark.parametrize("name", links(""))
def test_svg_shows_no_other_files(read, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9), "blue").save("blue.png")
    content = drawing('width="600" height="600"', links(tmp_path / "blue.png")[name])
    assert (read(content).pixels == 255).all()


def test_svg_shows_pictures_inside_of_it(read, tmp_path):
    path = tmp_path / "blue.png"
    Image.new("RGB", (9, 9), "blue").save(path)
    data = base64.b64encode(path.read_bytes()).decode()
    body = f'<image href="data:image/png;base64,{data}" width="600" height="600"/>'
    pixels = read(drawing('width="600" height="600"', body)).pixels
    assert (pixels[300, 300] == (0, 0, 255)).all()


def test_svg_does_not_use_the_network(read, monkeypatch):
    with socket.socket(socket.AF_UNIX):
        monkeypatch.setattr(socket, "socket", None)
        body = '<image href="http://127.0.0.1:9/x.png" width="600" height="600"/>'
        assert (read(drawing('width="600" height="600"', body)).pixels == 255).all()


ENTITIES = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html></html>", "known format"),
        (b"<svg", "known format"),
        (b"no picture " * 9, "known format"),
        (drawing('width="100000" height="100000"'), "max_pixels"),
        (drawing('width="1e30" height="1e30"'), "max_pixels"),
        (drawing("", "&a9;", f'<!DOCTYPE svg [<!ENTITY a0 "lol">{ENTITIES}]>'), "known format"),
        (
            drawing("", "<text>&x;</text>", '<!DOCTYPE svg [<!ENTITY x SYSTEM "/etc/passwd">]>'),
            "refers to other files",
        ),
        (gzip.compress(bytes(60_000_000)), "larger than 50 MB"),
        (drawing("", "<g>" * 100_000 + "</g>" * 100_000), "damaged|known format"),
    ],
)
def test_svg_that_is_hostile_or_none_is_refused(read, content, reason):
    with pytest.raises(DecodeError, match=reason):
        read(content)


@pytest.mark.parametrize(
    ("head", "recognized"),
    [
        (b"<svg xmlns=", True),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x --><svg ', True),
        (b"<!DOCTYPE svg PUBLIC", True),
        (b'<?xml version="1.0"?><x:xmpmeta', False),
        (b"<svgs>", False),
        (b"<html><svg ", False),
        (b"", False),
    ],
)
def test_svg_is_recognized_by_its_first_bytes(head, recognized):
    assert svg.build().recognizes(head) is recognized


def test_svg_without_its_extra_names_it(read, monkeypatch):
    monkeypatch.setattr("mmsearch.modalities._reader.find_spec", lambda name: None)
    assert svg.build().missing_extra == "svg"
    with pytest.raises(DecodeError, match=r"\(pip install '.\[svg\]'\)"):
        read(drawing('width="9" height="9"'))


def test_thumbnail_of_svg_is_small(tmp_path):
    path = tmp_path / "drawing.svg"
    path.write_bytes(drawing('width="640" height="480"'))
    content = svg.build().thumbnail(os.fsencode(path), 64)
    assert content.startswith(b"\xff\xd8\xff")
    assert np.frombuffer(content, np.uint8).size < 2000
