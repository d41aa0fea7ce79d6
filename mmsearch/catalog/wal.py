"""Commits that SQLite passes over in the -wal file of a writer that was killed.

SQLite reads that file as far as its running checksum holds, and takes the rest for what is left of
a transaction that never ended. So one changed byte makes every later commit vanish without a word.
The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmsearch.storage.atomic import open_index_file

_HEADER, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_LITTLE_ENDIAN, _BIG_ENDIAN = 0x377F0682, 0x377F0683
_PAGE_SIZE_AT, _LARGEST_PAGE = 16, 65536
_WORD = 0xFFFFFFFF

Sums = tuple[int, int]


def commits_passed_over(catalog: Path) -> int:
    """How many commits stand behind the first frame that SQLite will not read.

    None does after a writer was merely killed. One may, after the power went in the midst of a
    commit that nobody was told of. As each commit is synced before the next one begins, more than
    one is damage.

    Args:
        catalog: The database; no writer may be at work.
    """
    try:
        with open_index_file(catalog.with_name(f"{catalog.name}-wal")) as file:
            content = file.read()
    except FileNotFoundError:
        return 0
    frames = list(_frames(content, _page_size(catalog)))
    if not frames:
        return 0
    header = _HEADER.unpack_from(content)
    order = "<" if header[0] == _LITTLE_ENDIAN else ">"
    sums = _added((0, 0), content[:24], order)
    if header[0] in (_LITTLE_ENDIAN, _BIG_ENDIAN) and sums == header[6:8]:
        salts = header[4:6]
        readable = _readable(frames, salts, sums, order)
    else:
        salts = _FRAME.unpack_from(frames[0])[2:4]
        readable = 0
    return sum(_is_commit(frame, salts) for frame in frames[readable:])


def _page_size(catalog: Path) -> int:
    with open_index_file(catalog) as file:
        file.seek(_PAGE_SIZE_AT)
        size = int.from_bytes(file.read(2), "big")
    return _LARGEST_PAGE if size == 1 else size


def _frames(content: bytes, page_size: int) -> Iterator[bytes]:
    """Whole frames; one that was cut short by a kill is none."""
    size = _FRAME.size + page_size
    for start in range(_HEADER.size, len(content) - size + 1, size):
        yield content[start : start + size]


def _readable(frames: Sequence[bytes], salts: Sequence[int], sums: Sums, order: str) -> int:
    """How many frames SQLite reads."""
    for count, frame in enumerate(frames):
        facts = _FRAME.unpack_from(frame)
        sums = _added(_added(sums, frame[:8], order), frame[_FRAME.size :], order)
        if facts[2:4] != salts or facts[4:6] != sums:
            return count
    return len(frames)


def _is_commit(frame: bytes, salts: Sequence[int]) -> bool:
    """Whether a frame ends a commit of the same age: the file may go on with much older frames.

    Those have two other salts, and a changed byte changes one.
    """
    _, pages_after_commit, first, second, _, _ = _FRAME.unpack_from(frame)
    return bool(pages_after_commit) and (first == salts[0] or second == salts[1])


def _added(sums: Sums, content: bytes, order: str) -> Sums:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & _WORD
        second = (second + odd + first) & _WORD
    return first, second
