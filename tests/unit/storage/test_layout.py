import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import astuple

import numpy as np
import pytest

from mmsearch.core.errors import DamagedFileError, IndexLockedError, UsageError
from mmsearch.core.records import EncodedPicture, FileRef
from mmsearch.core.types import EncoderSpec, Picture, TextVectors
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.storage import atomic as module
from mmsearch.storage import segments as segments_module
from mmsearch.storage.atomic import atomic_write, read_verified_bytes
from mmsearch.storage.layout import (
    IndexLayout,
    list_index_names,
    parse_file_ref,
    segment_number,
)
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.segments import (
    SegmentMetadata,
    SegmentVectors,
    read_image_vectors,
    read_segment,
    recover_segment,
    segment_writer,
    write_segment,
)
from mmsearch.storage.stored_files import remove_orphans
from mmsearch.storage.stores.local import LocalStore


@pytest.fixture
def layout(tmp_path):
    layout = IndexLayout.for_name(tmp_path, "test")
    layout.create()
    return layout


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a b", "-x", "x" * 101, "a\n", "é"])
def test_index_layout_invalid_name_raises_usage_error(tmp_path, name):
    with pytest.raises(UsageError, match="cannot be the name"):
        IndexLayout.for_name(tmp_path, name)


def test_list_index_names_returns_visible_folders_with_catalog(tmp_path):
    for name in ("b", "a", ".removed"):
        layout = IndexLayout(tmp_path / name)
        layout.create()
        layout.catalog.touch()
    IndexLayout(tmp_path / "without").create()
    (tmp_path / "file").touch()
    assert list_index_names(tmp_path) == ["a", "b"]
    assert list_index_names(tmp_path / "nowhere") == []
    assert list_index_names(tmp_path / "file") == []


def test_atomic_write_returns_name_size_and_digest_of_written_file(layout):
    file_ref = atomic_write(layout.vector_index_path(7, "vectors"), b"content")
    assert file_ref.name == "ann/000007.vectors"
    assert file_ref.bytes == 7
    assert file_ref.sha256 == hashlib.sha256(b"content").hexdigest()
    assert read_verified_bytes(layout.path(file_ref), file_ref) == b"content"


def test_atomic_write_failed_sync_leaves_no_file(layout, monkeypatch):
    def fail_disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fail_disk_full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(layout.new_segment_path(1), b"content")
    assert list((layout.folder / "segments").iterdir()) == []


def test_atomic_write_syncs_file_before_rename_and_folder_after(layout, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, module.Path.replace

    def record_fsync(descriptor):
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}").rsplit("/", 1)[1])
        real_fsync(descriptor)

    def replace(path, target):
        calls.append("rename")
        return real_replace(path, target)

    monkeypatch.setattr(module.os, "fsync", record_fsync)
    monkeypatch.setattr(module.Path, "replace", replace)
    file_ref = atomic_write(layout.new_segment_path(1), b"content")
    assert calls == [f"{layout.path(file_ref).name}.tmp", "rename", "segments"]


def test_writer_lock_of_other_process_raises_error_until_it_dies(layout):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_hold_lock, args=(layout, ready))
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


def _hold_lock(layout, ready):
    with writer_lock(layout):
        ready.set()
        import time

        time.sleep(600)


def test_remove_orphans_deletes_only_unreferenced_files(layout):
    referenced = atomic_write(layout.new_segment_path(1), b"kept")
    orphans = [
        atomic_write(path, b"orphan").name
        for path in (
            layout.new_segment_path(2),
            layout.folder / "segments/000002.vectors",
            layout.vector_index_path(1, "faiss"),
        )
    ]
    assert sorted(remove_orphans(layout, {referenced.name})) == sorted(orphans)
    assert layout.path(referenced).exists()


def test_bytes_by_part_skips_listed_file_renamed_meanwhile(layout, monkeypatch):
    atomic_write(layout.new_segment_path(1), b"kept")
    listed_files = [
        *layout.files(),
        ("segments/000002.vectors.tmp", layout.folder / "segments/2.npz.tmp"),
    ]
    monkeypatch.setattr(IndexLayout, "files", lambda self: listed_files)
    assert layout.bytes_by_part() == {"catalog": 0, "segments": 4, "ann": 0, "derived": 0}


def test_new_vector_index_path_has_a_number_above_existing_ones(layout):
    assert layout.new_vector_index_path("faiss").name == "000001.faiss"
    atomic_write(layout.vector_index_path(4, "faiss"), b"x")
    assert layout.new_vector_index_path("faiss").name == "000005.faiss"


def test_new_vector_index_path_of_files_in_a_store_has_a_random_part(layout):
    atomic_write(layout.places, b"")
    paths = {layout.new_vector_index_path("faiss") for _ in range(3)}
    assert len(paths) == 3
    for path in paths:
        assert path.name.startswith("000001-")
        assert layout.path(FileRef(f"ann/{path.name}", 1, "0" * 64)) == path
        atomic_write(path, b"x")
    assert layout.new_vector_index_path("faiss").name.startswith("000002-")


def vectors_of(n, dim=24, texts=()):
    """Vectors of ``n`` pictures; ``texts`` lists the text kinds of the first pictures."""
    rng = np.random.default_rng(0)
    kinds = [*texts, *[()] * (n - len(texts))]
    text_vectors = [
        TextVectors(tuple(k), as_unit_vectors(rng.standard_normal((len(k), dim)).reshape(-1, dim)))
        for k in kinds
    ]
    images = as_unit_vectors(rng.standard_normal((n, dim)))
    return SegmentVectors(np.arange(n, dtype=np.int64) * 5, images, text_vectors)


@pytest.mark.parametrize(
    "texts", [[], [("caption", "keywords"), (), ("title",)], [(), ("caption",) * 70]]
)
def test_segment_written_and_read_returns_equal_vectors(layout, texts):
    vectors = vectors_of(9, texts=texts)
    segment = write_segment(layout, 3, vectors)
    assert (segment.number, segment.rows, segment.dim) == (3, 9, 24)
    reread = read_segment(layout, segment)
    np.testing.assert_array_equal(reread.ids, vectors.ids)
    np.testing.assert_allclose(reread.images, vectors.images, atol=1e-3)
    assert [text_vectors.kinds for text_vectors in reread.texts] == [
        text_vectors.kinds for text_vectors in vectors.texts
    ]
    for actual, expected in zip(reread.texts, vectors.texts, strict=True):
        np.testing.assert_allclose(actual.vectors, expected.vectors, atol=1e-3)


def test_write_segment_equal_vectors_give_equal_files(layout):
    vectors = vectors_of(4, texts=[("caption",)])
    first_segment = write_segment(layout, 1, vectors)
    assert write_segment(layout, 2, vectors).file_ref.sha256 == first_segment.file_ref.sha256


@pytest.mark.parametrize("max_spooled_bytes", [1, 1000, 10**6])
@pytest.mark.parametrize("batch_size", [1, 3, 9])
def test_segment_written_in_batches_equals_segment_written_at_once(
    layout, monkeypatch, batch_size, max_spooled_bytes
):
    monkeypatch.setattr(segments_module, "MAX_SPOOLED_BYTES", max_spooled_bytes)
    monkeypatch.setattr(segments_module, "SPOOL_BLOCK_ROWS", 2)
    encoder = EncoderSpec("toy", 24, "0" * 64, {}, 1, 16)
    vectors = vectors_of(9, texts=[(), ("caption", "title"), (), ("caption",) * 5])
    pictures = [EncodedPicture(i * 5, bytes([i]) * 32, Picture(4, 3, "PNG")) for i in range(9)]
    whole = write_segment(layout, 1, vectors, SegmentMetadata(encoder, pictures))
    with segment_writer(LocalStore(layout.folder), 1, encoder) as writer:
        for start in range(0, 9, batch_size):
            rows = slice(start, start + batch_size)
            batch = SegmentVectors(vectors.ids[rows], vectors.images[rows], vectors.texts[rows])
            writer.append(batch, pictures[rows])
        segment = writer.finish()
    assert segment.file_ref.sha256 == whole.file_ref.sha256
    assert recover_segment(layout.path(segment.file_ref))[1] == SegmentMetadata(encoder, pictures)
    assert len(list((layout.folder / "segments").iterdir())) == 2


def test_segment_writer_error_between_batches_leaves_no_file(layout):
    vectors = vectors_of(2, texts=[("caption",)])

    def write_half():
        with segment_writer(LocalStore(layout.folder), 1, None) as writer:
            writer.append(vectors)
            raise RuntimeError("device lost")

    with pytest.raises(RuntimeError, match="device lost"):
        write_half()
    assert list((layout.folder / "segments").iterdir()) == []


SAME_SHARD_TIMES = 200


def test_segments_of_one_shard_by_two_workers_match_their_references_and_orphans_are_removed(
    layout,
):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        start = context.Manager().Barrier(2)
        workers = [pool.submit(_write_one_shard, layout, start) for _ in range(2)]
        segments = [segment for worker in workers for segment in worker.result()]
    assert len({segment.file_ref.name for segment in segments}) == 2 * SAME_SHARD_TIMES
    assert {segment_number(layout.path(segment.file_ref)) for segment in segments} == {3}
    expected = vectors_of(4, texts=[("caption",)])
    for segment in segments:
        assert parse_file_ref(*astuple(segment.file_ref)) == segment.file_ref
        np.testing.assert_array_equal(read_segment(layout, segment).ids, expected.ids)
    kept = segments[SAME_SHARD_TIMES // 2]
    assert len(remove_orphans(layout, {kept.file_ref.name})) == 2 * SAME_SHARD_TIMES - 1
    assert [path.name for path in (layout.folder / "segments").iterdir()] == [
        layout.path(kept.file_ref).name
    ]


def _write_one_shard(layout, start):
    start.wait(60)
    vectors = vectors_of(4, texts=[("caption",)])
    return [write_segment(layout, 3, vectors) for _ in range(SAME_SHARD_TIMES)]


@pytest.mark.parametrize("place", [0, 100, -1])
def test_read_segment_flipped_bit_raises_damaged_file_error(layout, place):
    segment = write_segment(layout, 1, vectors_of(4))
    path = layout.path(segment.file_ref)
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="checksum"):
        read_segment(layout, segment)


def test_segment_any_flipped_byte_raises_error_or_leaves_rows_unchanged(layout):
    encoder = EncoderSpec("toy", 24, "0" * 64, {}, 1, 16)
    pictures = [EncodedPicture(i * 5, bytes(32), Picture(4, 3, "PNG")) for i in range(4)]
    vectors = vectors_of(4, texts=[("caption",)])
    segment = write_segment(layout, 1, vectors, SegmentMetadata(encoder, pictures))
    path = layout.path(segment.file_ref)
    assert recover_segment(path) == (segment, SegmentMetadata(encoder, pictures))
    rows = read_image_vectors(layout, segment, [5, 15])
    np.testing.assert_allclose(rows, vectors.images[[1, 3]], atol=1e-3)
    intact = path.read_bytes()
    for position in range(len(intact)):
        content = bytearray(intact)
        content[position] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(DamagedFileError):
            read_segment(layout, segment)
        with pytest.raises(DamagedFileError):
            recover_segment(path)
        with suppress(DamagedFileError):
            np.testing.assert_array_equal(read_image_vectors(layout, segment, [5, 15]), rows)


def test_read_segment_foreign_file_raises_damaged_file_error(layout):
    from mmsearch.core.records import Segment

    file_ref = atomic_write(layout.new_segment_path(1), b"PK\3\4 not really")
    with pytest.raises(DamagedFileError, match="not a vector file"):
        read_segment(layout, Segment(1, file_ref, 1, 4))
