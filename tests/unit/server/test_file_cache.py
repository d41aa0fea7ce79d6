"""Tests of the file cache, which stores files up to a size limit."""

import multiprocessing
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmsearch.server import thumbnails
from mmsearch.server.thumbnails import BLOCK_BYTES, FileCache


def used_bytes(folder):
    """Return the disk usage in whole blocks, as `du` counts it."""
    sizes = [path.stat().st_size for path in folder.glob("*/*")]
    return sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in sizes)


def name(number):
    return f"{number % 16:x}{number:07d}"


def content(number):
    return name(number).encode() * (64 + number % 900)


def used(folder, number, ago_s):
    path = folder / name(number)[:2] / name(number)
    then = time.time() - ago_s
    os.utime(path, (then, path.stat().st_mtime))


def kept(files, numbers):
    return [number for number in numbers if files.get(name(number)) is not None]


def test_file_cache_get_returns_last_content_put(tmp_path):
    files = FileCache(tmp_path / "made", 10**7)
    assert files.get(name(1)) is None
    for number in range(50):
        files.put(name(number), content(number))
    files.put(name(7), b"other")
    assert files.get(name(7)) == b"other"
    assert [files.get(name(n)) for n in range(8, 50)] == [content(n) for n in range(8, 50)]


def test_file_cache_over_limit_removes_least_recently_used_files(tmp_path):
    files = FileCache(tmp_path, 10 * BLOCK_BYTES)
    for number in range(10):
        files.put(name(number), b"x")
        used(tmp_path, number, 1000 - number)
    assert kept(files, [0, 2]) == [0, 2]
    files.put(name(10), b"x")
    assert kept(files, range(11)) == [0, 2, *range(4, 11)]
    assert used_bytes(tmp_path) == 9 * BLOCK_BYTES


def test_file_cache_get_updates_access_time_and_keeps_mtime(tmp_path):
    files = FileCache(tmp_path, 10**6)
    files.put(name(1), b"x")
    used(tmp_path, 1, 3600)
    path = tmp_path / name(1)[:2] / name(1)
    changed = path.stat().st_mtime_ns
    files.get(name(1))
    assert time.time() - path.stat().st_atime < 60
    assert path.stat().st_mtime_ns == changed


def test_file_cache_put_never_exceeds_limit(tmp_path):
    limit = 100 * BLOCK_BYTES
    files = FileCache(tmp_path, limit)
    for number in range(400):
        files.put(name(number), content(number))
        assert used_bytes(tmp_path) <= limit
        assert files.get(name(number)) == content(number)
    assert used_bytes(tmp_path) > limit / 2


def test_file_cache_lowered_limit_applies_at_next_put(tmp_path):
    files = FileCache(tmp_path, 10**7)
    for number in range(60):
        files.put(name(number), b"x")
    FileCache(tmp_path, 20 * BLOCK_BYTES).put(name(60), b"x")
    assert used_bytes(tmp_path) <= 20 * BLOCK_BYTES


@pytest.mark.parametrize("limit", [0, -1, BLOCK_BYTES - 1])
def test_file_cache_content_larger_than_limit_is_not_stored(tmp_path, limit):
    files = FileCache(tmp_path / "made", limit)
    files.put(name(1), b"x")
    assert files.get(name(1)) is None
    assert not (tmp_path / "made").exists()


def test_file_cache_zero_limit_returns_none_and_keeps_existing_files(tmp_path):
    FileCache(tmp_path, 10**6).put(name(1), content(1))
    assert FileCache(tmp_path, 0).get(name(1)) is None
    assert FileCache(tmp_path, 10**6).get(name(1)) == content(1)


def test_file_cache_deleted_folder_is_recreated_by_put(tmp_path):
    files = FileCache(tmp_path / "made", 10**6)
    files.put(name(1), b"x")
    for path in sorted((tmp_path / "made").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    assert files.get(name(1)) is None
    files.put(name(1), b"y")
    assert files.get(name(1)) == b"y"


def test_file_cache_put_survives_vanished_file_and_removes_old_partial_file(tmp_path, monkeypatch):
    files = FileCache(tmp_path, 3 * BLOCK_BYTES)
    for number in range(3):
        files.put(name(number), b"x")
        used(tmp_path, number, 500)
    (tmp_path / "00").mkdir(exist_ok=True)
    half = tmp_path / "00" / ".unfinished-x"
    half.write_bytes(b"x" * 3 * BLOCK_BYTES)
    os.utime(half, (0, 0))
    listed = FileCache._files

    def then_removed(self):
        found = list(listed(self))
        min(found)[2].unlink()
        return iter(found)

    monkeypatch.setattr(FileCache, "_files", then_removed)
    files.put(name(4), b"y")
    assert files.get(name(4)) == b"y"
    assert not half.exists()
    assert used_bytes(tmp_path) <= 3 * BLOCK_BYTES


def test_file_cache_eviction_keeps_recent_partial_file(tmp_path):
    files = FileCache(tmp_path, 3 * BLOCK_BYTES)
    (tmp_path / "00").mkdir()
    half = tmp_path / "00" / ".unfinished-x"
    half.write_bytes(b"x")
    os.utime(half, (time.time() - 600,) * 2)
    for number in range(9):
        files.put(name(number), b"x")
    assert half.exists()
    assert used_bytes(tmp_path) <= 3 * BLOCK_BYTES


def test_file_cache_failed_put_raises_and_leaves_no_file(tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(thumbnails.Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        FileCache(tmp_path, 10**6).put(name(1), b"x")
    assert list(tmp_path.glob("*/*")) == []


LIMIT = 60 * BLOCK_BYTES
WRITERS = 3


def churn(folder, seed):
    """Get and put many files; return how often a file had the wrong content."""
    files = FileCache(folder, LIMIT)

    def one(number):
        number = number * 7919 * (seed + 1) % 300
        got = files.get(name(number))
        if got is None:
            files.put(name(number), content(number))
        return got not in (None, content(number))

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(one, range(600)))


def test_file_cache_shared_by_processes_and_threads_returns_correct_content(tmp_path):
    with multiprocessing.get_context("spawn").Pool(WRITERS) as pool:
        wrong = pool.starmap(churn, [(tmp_path, seed) for seed in range(WRITERS)])
    assert wrong == [0] * WRITERS
    assert LIMIT / 2 < used_bytes(tmp_path) <= LIMIT * (1 + WRITERS / 16)


@pytest.mark.parametrize("umask", [0o022, 0o000])
def test_file_cache_files_are_accessible_to_owner_only_for_any_umask(tmp_path, umask):
    folder = tmp_path / "kept"
    before = os.umask(umask)
    try:
        FileCache(folder, 2**20).put("abc", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "ab")]
    assert modes == [0o700, 0o700]
    assert stat.S_IMODE((folder / "ab" / "abc").stat().st_mode) == 0o600


def test_file_cache_eviction_keeps_foreign_files_and_links(tmp_path):
    folder, strangers = tmp_path / "kept", tmp_path / "strangers"
    strangers.mkdir()
    kept = FileCache(folder, 3 * 4096)
    kept.put("aaa", b"x")
    others = [strangers / "zz1", folder / "aa" / "notes.txt", folder / "aa" / "aal"]
    others[0].write_bytes(b"x" * 10_000)
    others[1].write_bytes(b"x" * 10_000)
    others[2].symlink_to(strangers / "zz1")
    (folder / "zz").symlink_to(strangers)
    for number in range(8):
        kept.put(f"b{number}", b"x" * 4096)
    assert all(os.path.lexists(path) for path in others)
    assert len(list(folder.glob("b*/*"))) <= 3
