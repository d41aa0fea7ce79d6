"""Contract tests that run on every modality."""

import io
import os
import pickle
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmsearch.core import plugins
from mmsearch.core.errors import DecodeError
from mmsearch.core.files import HEAD_BYTES
from mmsearch.core.types import ItemLocator, Picture, TextItem
from mmsearch.indexing.encode import DecoderFactory, DecodeTask
from tests import films, office_files, pdf_files, raw_files, sound_files

WIDTH, HEIGHT = 640, 480


def sample_picture(path):
    x, y = np.meshgrid(np.linspace(0, 255, WIDTH), np.linspace(0, 255, HEIGHT))
    pixels = np.stack([x, y, 255 - x], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=95)


def sample_jxl(path):
    import pillow_jxl  # noqa: F401 - registers the format

    buffer = io.BytesIO()
    raw_files.scene(WIDTH, HEIGHT).save(buffer, "JXL")
    path.write_bytes(buffer.getvalue())


def sample_raw(path):
    path.write_bytes(raw_files.dng(raw_files.jpeg(raw_files.scene(WIDTH, HEIGHT))))


def sample_svg(path):
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}">'
        '<circle cx="300" cy="200" r="150" fill="teal"/></svg>'
    )


def sample_document(path):
    """Write a page of the usual size."""
    size = (WIDTH / 2, HEIGHT / 2)
    path.write_bytes(pdf_files.pdf([pdf_files.words("a page of words")], size=size))


def sample_office(path):
    """Write a text of one section."""
    path.write_bytes(office_files.docx("a section of words"))


def sample_film(path):
    """Write a shot of two seconds."""
    films.write_film(path, [raw_files.scene(WIDTH, HEIGHT)], seconds=2, size=(WIDTH, HEIGHT))


def sample_sound(path):
    """Write a tone of two seconds."""
    sound_files.write_tone(path, 2)


SAMPLES = {
    "document": ("sample.pdf", sample_document),
    "image": ("sample.jpg", sample_picture),
    "jxl": ("sample.jxl", sample_jxl),
    "office": ("sample.docx", sample_office),
    "raw": ("sample.dng", sample_raw),
    "sound": ("sample.wav", sample_sound),
    "svg": ("sample.svg", sample_svg),
    "video": ("sample.mp4", sample_film),
}
"""Maps a plugin to the name of a sample file and the function that writes it."""


def test_modality_samples_cover_every_plugin():
    assert sorted(SAMPLES) == plugins.names("modalities")


@pytest.fixture(params=plugins.names("modalities"))
def kind(request):
    return request.param


@pytest.fixture
def modality(kind):
    return plugins.load("modalities", kind).build(max_pixels=1_000_000)


@pytest.fixture
def path(kind, tmp_path):
    name, write = SAMPLES[kind]
    write(tmp_path / name)
    return os.fsencode(tmp_path / name)


def read(modality, path, edge_px):
    """Return the first item of a file."""
    return next(iter(modality.items(path, edge_px)))


def pixels_of(item):
    """Return the pixels of an item; none of one that has no pixels."""
    return np.zeros((0, 0, 3), np.uint8) if isinstance(item, TextItem) else item.pixels


def test_modality_can_read_decides_by_name_alone(modality, path):
    assert modality.can_read(path)
    assert modality.can_read(b"/missing/" + os.path.basename(path).upper())
    assert not modality.can_read(path + b".txt")
    assert not modality.can_read(b"/" + os.path.basename(path) + b"/README")
    assert not modality.can_read(b"")


def test_modality_recognizes_its_files_by_their_first_bytes(modality, path):
    head = Path(os.fsdecode(path)).read_bytes()[:HEAD_BYTES]
    assert modality.recognizes(head)
    for other in (b"", head[:1], b"no picture at all " * 4, b"PK\3\4" + head[4:], bytes(64)):
        assert not modality.recognizes(other) or other == head


def test_modality_with_all_libraries_misses_no_extra(modality):
    assert modality.missing_extra is None


@pytest.mark.parametrize("edge_px", [0, 1, 100, 480, 5000])
def test_modality_read_returns_contiguous_rgb_of_requested_size(modality, path, edge_px):
    decoded = read(modality, path, edge_px)
    if isinstance(decoded, TextItem):
        assert (decoded.picture.width, decoded.picture.height) == (0, 0)
        return
    pixels = decoded.pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    assert min(pixels.shape[:2]) >= min(edge_px or HEIGHT, WIDTH, HEIGHT)


def test_modality_read_facts_are_independent_of_requested_size(modality, path):
    facts = {read(modality, path, edge_px).picture for edge_px in (0, 1, 100, 5000)}
    assert len(facts) == 1
    (picture,) = facts
    assert isinstance(picture, Picture)
    has_pixels = not isinstance(read(modality, path, 0), TextItem)
    assert (picture.width, picture.height) == ((WIDTH, HEIGHT) if has_pixels else (0, 0))
    assert picture.format


def test_modality_read_twice_returns_same_result(modality, path):
    first, second = read(modality, path, 100), read(modality, path, 100)
    assert first.picture == second.picture
    np.testing.assert_array_equal(pixels_of(first), pixels_of(second))


def as_values(items):
    return [(item.locator, item.picture, pixels_of(item).tobytes()) for item in items]


def test_modality_items_can_be_read_from_any_part_on(modality, path):
    items = as_values(modality.items(path, 100))
    assert [locator.part for locator, *_ in items] == list(range(len(items)))
    assert 1 <= len(items) <= modality.max_items
    for part in range(len(items) + 1):
        assert as_values(modality.items(path, 100, part)) == items[part:]


def test_modality_kind_is_one_word(modality):
    assert modality.kind.isidentifier()
    assert modality.kind.islower()
    assert modality.kind != "image" or modality.max_items == 1


def test_modality_thumbnail_of_item_that_is_not_there_raises_decode_error(modality, path):
    part = len(list(modality.items(path, 100)))
    with pytest.raises(DecodeError):
        modality.thumbnail(path, 100, "JPEG", ItemLocator(part))


def test_modality_thumbnail_is_jpeg_of_requested_size(modality, path):
    # What has no pixels is drawn as large as it is wanted.
    has_pixels = not isinstance(read(modality, path, 0), TextItem)
    for edge_px in (1, 64, 5000):
        with Image.open(io.BytesIO(modality.thumbnail(path, edge_px))) as small:
            assert small.format == "JPEG"
            assert max(small.size) == (min(edge_px, WIDTH) if has_pixels else edge_px)


def test_modality_after_pickling_reads_same_pixels(modality, path):
    copy = pickle.loads(pickle.dumps(modality))  # noqa: S301
    pixels = pixels_of(read(modality, path, 100))
    np.testing.assert_array_equal(pixels_of(read(copy, path, 100)), pixels)


def test_modality_reads_file_with_undecodable_name(modality, path, tmp_path):
    strange = os.fsencode(tmp_path) + b"/\xff\n " + os.path.basename(path)
    shutil.copyfile(path, strange)
    assert modality.can_read(strange)
    assert read(modality, strange, 0).picture == read(modality, path, 0).picture


def test_modality_picture_above_pixel_limit_raises_decode_error_or_is_drawn_smaller(kind, path):
    limited = plugins.load("modalities", kind).build(max_pixels=WIDTH * HEIGHT - 1)
    if isinstance(read(plugins.load("modalities", kind).build(), path, 0), TextItem):
        pytest.skip("it has no pixels")
    if kind == "document":
        decoded = read(limited, path, 0)
        height, width = decoded.pixels.shape[:2]
        assert (decoded.picture.width, decoded.picture.height) == (width, height)
        assert 0.98 * WIDTH * HEIGHT < width * height < WIDTH * HEIGHT
        return
    for attempt in (partial(read, limited), limited.thumbnail):
        with pytest.raises(DecodeError, match="max_pixels"):
            attempt(path, 10)


@pytest.mark.parametrize("trouble", ["missing", "folder", "fifo", "empty", "nonsense"])
def test_modality_unreadable_file_raises_decode_error_with_printable_reason(
    modality, path, trouble
):
    os.unlink(path)
    if trouble == "folder":
        os.mkdir(path)
    elif trouble == "fifo":
        os.mkfifo(path)
    elif trouble != "missing":
        with open(path, "wb") as file:
            file.write(b"" if trouble == "empty" else b"no picture at all " * 50)
    for attempt in (partial(read, modality), modality.thumbnail):
        with pytest.raises(DecodeError) as caught:
            attempt(path, 100)
        reason = str(caught.value)
        assert reason
        assert reason.isprintable()
        assert "<" not in reason


class Unchanged:
    """Preprocessor that returns the pixels."""

    edge_px = 256

    def __call__(self, pixels):
        return pixels


@pytest.fixture(scope="module")
def decode():
    return DecoderFactory(
        tuple(plugins.load("modalities", name).build() for name in plugins.names("modalities")),
        Unchanged(),
    )()


def path_task(path):
    facts = os.stat(path)
    return DecodeTask(path, facts.st_size, facts.st_mtime_ns)


def content_task(path):
    return DecodeTask(content=Path(os.fsdecode(path)).read_bytes(), name=os.path.basename(path))


def outcome(decode, task):
    """Return what a decode worker returns, as plain values, or the reason why it fails."""
    try:
        window = decode(task)
    except DecodeError as error:
        return error.message
    (item,) = window.items
    assert not window.has_more
    if item.model_input is None:
        return item.picture, window.kind
    return item.picture, window.kind, item.model_input.shape, item.model_input.tobytes()


PHOTOS = sorted((Path(__file__).parents[1] / "photos/photos").iterdir())


def test_decode_worker_content_of_every_photograph_gives_the_picture_of_its_file(decode):
    assert PHOTOS
    for photo in PHOTOS:
        path = os.fsencode(photo)
        assert outcome(decode, content_task(path)) == outcome(decode, path_task(path)), photo


@pytest.mark.parametrize("damage", ["whole", "half", "empty"])
def test_decode_worker_content_gives_what_its_file_gives(decode, path, damage):
    content = Path(os.fsdecode(path)).read_bytes()
    kept = {"whole": len(content), "half": len(content) // 2, "empty": 0}[damage]
    Path(os.fsdecode(path)).write_bytes(content[:kept])
    expected = outcome(decode, path_task(path))
    assert damage == "half" or isinstance(expected, str) == (damage == "empty")
    assert outcome(decode, content_task(path)) == expected


@pytest.mark.parametrize("name", [b"scan.tif", b"scan.dng", b"scan", b"scan.txt"])
def test_decode_worker_name_of_content_decides_as_that_of_a_file(decode, tmp_path, name):
    # The content of a DNG is that of a TIFF: its name tells which modality reads it.
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_bytes(
        raw_files.dng(raw_files.jpeg(raw_files.scene(WIDTH, HEIGHT)))
    )
    assert outcome(decode, content_task(path)) == outcome(decode, path_task(path))


def test_decode_worker_content_without_memory_files_is_read_from_temporary_file(
    decode, path, tmp_path, monkeypatch
):
    expected = outcome(decode, path_task(path))
    task = content_task(path)
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    full = outcome(decode, task)
    (tmp_path / "temporary").mkdir()
    assert full == "no such file or directory"
    assert outcome(decode, task) == expected
    assert not list((tmp_path / "temporary").iterdir())


def test_decode_worker_content_leaves_no_open_file(decode, path):
    task = content_task(path)
    decode(task)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        decode(task)
    assert len(os.listdir("/proc/self/fd")) == before
