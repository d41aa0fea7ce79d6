"""Tests of the thumbnail cache: it stores each thumbnail within a size limit."""

import errno
import hashlib
import os
from dataclasses import replace

import pytest

from mmsearch.core.errors import GoneError
from mmsearch.core.records import PictureRecord
from mmsearch.core.types import Picture
from mmsearch.server.thumbnails import FileCache, Size, ThumbnailCache


class Reader:
    """Reader that makes thumbnails of one megabyte and counts them."""

    made = 0

    def can_read(self, path):
        return path.endswith(b".jpg")

    def thumbnail(self, path, edge_px, file_format, locator):
        self.made += 1
        return bytes([edge_px % 251]) * 2**20


@pytest.fixture
def reader():
    return Reader()


@pytest.fixture
def records(tmp_path):
    def record(number):
        path = tmp_path / f"{number}.jpg"
        content = b"%d" % number
        path.write_bytes(content)
        facts = path.stat()
        picture = Picture(640, 480, "JPEG")
        folder, digest = os.fsencode(tmp_path), hashlib.sha256(content).digest()
        times = (facts.st_mtime_ns, facts.st_size)
        return PictureRecord(number, (os.fsencode(path),), picture, *times, folder, digest)

    return [record(number) for number in range(8)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "thumbnails"


def test_thumbnail_cache_makes_each_size_once(reader, records, folder):
    thumbnails = ThumbnailCache(folder, reader, 100)
    small, tag = thumbnails.get(records[0], Size.SMALL)
    large, other = thumbnails.get(records[0], Size.LARGE)
    assert (small[:1], large[:1]) == (bytes([160]), bytes([1280 % 251]))
    assert tag != other
    assert ThumbnailCache(folder, reader, 100).get(records[0], Size.SMALL) == (small, tag)
    assert reader.made == 2


def test_thumbnail_cache_stays_within_size_limit(reader, records, folder):
    thumbnails = ThumbnailCache(folder, reader, 5)
    for record in records:
        thumbnails.get(record, Size.SMALL)
        assert sum(path.stat().st_size for path in folder.rglob("*.webp")) <= 5 * 2**20
    thumbnails.get(records[-1], Size.SMALL)
    assert reader.made == len(records)
    thumbnails.get(records[0], Size.SMALL)
    assert reader.made == len(records) + 1


def test_thumbnail_cache_uses_a_copy_of_a_file_that_is_gone(reader, records, folder, tmp_path):
    other_root = tmp_path / "other"
    other_root.mkdir()
    copy = other_root / "copy.jpg"
    copy.write_bytes((tmp_path / "0.jpg").read_bytes())
    os.utime(copy, (1.0, 1.0))
    paths = (*records[0].paths, os.fsencode(copy))
    record = replace(records[0], paths=paths, copy_roots=(os.fsencode(other_root),))
    thumbnails = ThumbnailCache(folder, reader, 100)
    assert thumbnails.originals.path(record) == paths[0]
    (tmp_path / "0.jpg").unlink()
    assert thumbnails.originals.path(record) == paths[1]
    assert thumbnails.get(record, Size.SMALL)[0][:1] == bytes([160])
    # A copy must have the content that was indexed, and lie in its own folder.
    outside = replace(record, copy_roots=(os.fsencode(folder),))
    with pytest.raises(GoneError):
        thumbnails.originals.path(outside)
    copy.write_bytes(b"x")
    with pytest.raises(GoneError):
        thumbnails.originals.path(record)


def test_thumbnail_cache_zero_limit_stores_nothing(reader, records, folder):
    thumbnails = ThumbnailCache(folder, reader, 0)
    assert thumbnails.get(records[0], Size.SMALL) == thumbnails.get(records[0], Size.SMALL)
    assert reader.made == 2
    assert not folder.exists()


def test_thumbnail_cache_full_disk_still_returns_thumbnail(reader, records, folder, monkeypatch):
    def full(self, name, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileCache, "put", full)
    content, _ = ThumbnailCache(folder, reader, 100).get(records[0], Size.SMALL)
    assert len(content) == 2**20


def test_thumbnail_cache_deleted_original_raises_gone_error(reader, records, folder):
    thumbnails = ThumbnailCache(folder, reader, 100)
    thumbnails.get(records[0], Size.SMALL)
    os.unlink(records[0].paths[0])
    with pytest.raises(GoneError):
        thumbnails.get(records[0], Size.SMALL)
