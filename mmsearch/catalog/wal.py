"""Detection of commits that SQLite ignores in the -wal file of a killed writer.

SQLite reads the -wal file as long as its running checksum matches, and takes the rest for an
unfinished transaction. So one changed byte silently drops every later commit.
The format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmsearch.storage.atomic import open_index_file

_HEADER_STRUCT, _FRAME_HEADER_STRUCT = struct.Struct(">8I"), struct.Struct(">6I")
_LITTLE_ENDIAN, _BIG_ENDIAN = 0x377F0682, 0x377F0683
_PAGE_SIZE_OFFSET, _MAX_PAGE_BYTES = 16, 65536
_UINT32_MASK = 0xFFFFFFFF

Checksum = tuple[int, int]


def count_unreadable_commits(catalog: Path) -> int:
    """Return the number of commits after the last frame that SQLite reads.

    The number is 0 after a writer was merely killed. It may be 1 after a power failure during a
    commit that was never acknowledged. Each commit is synced before the next one begins, so a
    number above 1 means damage.

    Args:
        catalog: The database; no writer may have it open.
    """
    try:
        with open_index_file(catalog.with_name(f"{catalog.name}-wal")) as file:
            content = file.read()
    except FileNotFoundError:
        return 0
    frames = list(_split_frames(content, _page_size(catalog)))
    if not frames:
        return 0
    header = _HEADER_STRUCT.unpack_from(content)
    byte_order = "<" if header[0] == _LITTLE_ENDIAN else ">"
    checksum = _update_checksum((0, 0), content[:24], byte_order)
    if header[0] in (_LITTLE_ENDIAN, _BIG_ENDIAN) and checksum == header[6:8]:
        salts = header[4:6]
        num_readable = _count_readable(frames, salts, checksum, byte_order)
    else:
        salts = _FRAME_HEADER_STRUCT.unpack_from(frames[0])[2:4]
        num_readable = 0
    return sum(_is_commit(frame, salts) for frame in frames[num_readable:])


def _page_size(catalog: Path) -> int:
    with open_index_file(catalog) as file:
        file.seek(_PAGE_SIZE_OFFSET)
        size = int.from_bytes(file.read(2), "big")
    return _MAX_PAGE_BYTES if size == 1 else size


def _split_frames(content: bytes, page_size: int) -> Iterator[bytes]:
    """Yield the complete frames; skip a frame that was cut off by a kill."""
    size = _FRAME_HEADER_STRUCT.size + page_size
    for start in range(_HEADER_STRUCT.size, len(content) - size + 1, size):
        yield content[start : start + size]


def _count_readable(
    frames: Sequence[bytes], salts: Sequence[int], checksum: Checksum, byte_order: str
) -> int:
    """Return the number of frames that SQLite reads."""
    for count, frame in enumerate(frames):
        fields = _FRAME_HEADER_STRUCT.unpack_from(frame)
        checksum = _update_checksum(
            _update_checksum(checksum, frame[:8], byte_order),
            frame[_FRAME_HEADER_STRUCT.size :],
            byte_order,
        )
        if fields[2:4] != salts or fields[4:6] != checksum:
            return count
    return len(frames)


def _is_commit(frame: bytes, salts: Sequence[int]) -> bool:
    """Return True if a frame ends a commit written since the last reset of the -wal file.

    Older frames may follow in the file. Both of their salts differ, but a changed byte changes
    only one salt.
    """
    _, pages_after_commit, salt_1, salt_2, _, _ = _FRAME_HEADER_STRUCT.unpack_from(frame)
    return bool(pages_after_commit) and (salt_1 == salts[0] or salt_2 == salts[1])


def _update_checksum(checksum: Checksum, content: bytes, byte_order: str) -> Checksum:
    sum_1, sum_2 = checksum
    uint32_values = iter(struct.unpack(f"{byte_order}{len(content) // 4}I", content))
    for even, odd in zip(uint32_values, uint32_values, strict=True):
        sum_1 = (sum_1 + even + sum_2) & _UINT32_MASK
        sum_2 = (sum_2 + odd + sum_1) & _UINT32_MASK
    return sum_1, sum_2
