import hashlib
import multiprocessing
import os

import numpy as np
import pytest

from mmsearch.core.errors import DamagedFileError, IndexLockedError, UsageError
from mmsearch.core.types import TextVectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.storage import atomic as module
from mmsearch.storage.atomic import publish_bytes, read_verified
from mmsearch.storage.layout import IndexLayout, index_names
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.segments import SegmentVectors, read_segment, write_segment


@pytest.fixture
def layout(tmp_path):
    layout = IndexLayout.of(tmp_path, "test")
    layout.create()
    return layout


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a b", "-x", "x" * 101, "a\n", "é"])
def test_names_that_are_no_folder_names_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be the name"):
        IndexLayout.of(tmp_path, name)


def test_indexes_are_folders_with_a_catalog_whose_name_is_not_hidden(tmp_path):
    for name in ("b", "a", ".removed"):
        layout = IndexLayout(tmp_path / name)
        layout.create()
        layout.catalog.touch()
    IndexLayout(tmp_path / "without").create()
    (tmp_path / "file").touch()
    assert index_names(tmp_path) == ["a", "b"]
    assert index_names(tmp_path / "nowhere") == []
    assert index_names(tmp_path / "file") == []


def test_a_published_file_is_whole_and_stamped(layout):
    stamp = publish_bytes(layout.segment(7), b"content")
    assert stamp.name == "segments/000007.npz"
    assert stamp.bytes == 7
    assert stamp.sha256 == hashlib.sha256(b"content").hexdigest()
    assert bytes(read_verified(layout.path(stamp), stamp)) == b"content"


def test_a_failed_write_leaves_nothing(layout, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        publish_bytes(layout.segment(1), b"content")
    assert list((layout.folder / "segments").iterdir()) == []


def test_the_file_is_synced_before_its_name_and_the_folder_after(layout, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, module.Path.replace

    def sync(descriptor):
        order.append(os.readlink(f"/proc/self/fd/{descriptor}").rsplit("/", 1)[1])
        real_sync(descriptor)

    def replace(path, target):
        order.append("rename")
        return real_replace(path, target)

    monkeypatch.setattr(module.os, "fsync", sync)
    monkeypatch.setattr(module.Path, "replace", replace)
    publish_bytes(layout.segment(1), b"content")
    assert order == ["000001.npz.tmp", "rename", "segments"]


def test_the_lock_excludes_another_process_and_goes_with_it(layout):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(layout, ready))
    holder.start()
    assert ready.wait(60)
    with (
        pytest.raises(IndexLockedError, match=rf"process {holder.pid} on"),
        writer_lock(layout),
    ):
        pass
    holder.kill()
    holder.join()
    with writer_lock(layout, wait_s=10):
        assert layout.lock_holder.exists()
    assert not layout.lock_holder.exists()


def _hold(layout, ready):
    with writer_lock(layout):
        ready.set()
        import time

        time.sleep(600)


def test_orphans_go_and_referenced_files_stay(layout):
    kept = publish_bytes(layout.segment(1), b"kept")
    publish_bytes(layout.segment(2), b"orphan")
    publish_bytes(layout.built(1, "faiss"), b"orphan")
    assert layout.remove_orphans({kept.name}) == ["segments/000002.npz", "ann/000001.faiss"]
    assert layout.segment(1).exists()


def test_sizes_are_told_while_a_writer_renames_what_was_listed(layout, monkeypatch):
    publish_bytes(layout.segment(1), b"kept")
    listed = [*layout.files(), ("segments/000002.npz.tmp", layout.folder / "segments/2.npz.tmp")]
    monkeypatch.setattr(IndexLayout, "files", lambda self: listed)
    assert layout.sizes() == {"catalog": 0, "segments": 4, "ann": 0}


def test_names_of_built_indexes_are_not_used_twice(layout):
    assert layout.next_built_number() == 1
    publish_bytes(layout.built(4, "faiss"), b"x")
    assert layout.next_built_number() == 5


def vectors_of(n, dim=24, texts=()):
    """Vectors of n pictures; ``texts`` gives the kinds of the texts of the first ones."""
    rng = np.random.default_rng(0)
    kinds = [*texts, *[()] * (n - len(texts))]
    own = [
        TextVectors(tuple(k), as_unit_vectors(rng.standard_normal((len(k), dim)).reshape(-1, dim)))
        for k in kinds
    ]
    images = as_unit_vectors(rng.standard_normal((n, dim)))
    return SegmentVectors(np.arange(n, dtype=np.int64) * 5, images, own)


@pytest.mark.parametrize(
    "texts", [[], [("caption", "keywords"), (), ("title",)], [(), ("caption",) * 70]]
)
def test_a_segment_comes_back_as_it_was(layout, texts):
    vectors = vectors_of(9, texts=texts)
    segment = write_segment(layout, 3, vectors)
    assert (segment.number, segment.rows, segment.dim) == (3, 9, 24)
    again = read_segment(layout, segment)
    np.testing.assert_array_equal(again.ids, vectors.ids)
    np.testing.assert_allclose(again.images, vectors.images, atol=1e-3)
    assert [own.kinds for own in again.texts] == [own.kinds for own in vectors.texts]
    for mine, theirs in zip(again.texts, vectors.texts, strict=True):
        np.testing.assert_allclose(mine.vectors, theirs.vectors, atol=1e-3)


def test_equal_vectors_make_equal_segments(layout):
    vectors = vectors_of(4, texts=[("caption",)])
    first = write_segment(layout, 1, vectors)
    assert write_segment(layout, 2, vectors).stamp.sha256 == first.stamp.sha256


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_bit_in_a_segment_is_noticed(layout, place):
    segment = write_segment(layout, 1, vectors_of(4))
    path = layout.path(segment.stamp)
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="checksum"):
        read_segment(layout, segment)


def test_a_file_that_is_no_segment_is_refused(layout):
    from mmsearch.core.records import Segment

    stamp = publish_bytes(layout.segment(1), b"PK\3\4 not really")
    with pytest.raises(DamagedFileError, match="not a segment"):
        read_segment(layout, Segment(1, stamp, 1, 4))
