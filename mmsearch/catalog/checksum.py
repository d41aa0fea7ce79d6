"""The checksum file of a catalog, valid while no writer has it open.

SQLite detects damage to its structure, not to the content of rows. So a closing writer leaves a
checksum file (``.seal``) beside the database, with the size and the SHA-256 of the database. The
next writer verifies it and marks it dirty. A dirty checksum file means that the last writer was
killed or is still at work: then only the structure can be checked. The file also stores the indexed
folders and their choices, so that a repair knows them even if the catalog cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsearch.catalog.connection import has_content
from mmsearch.core.errors import DamagedFileError, Hint
from mmsearch.storage.atomic import atomic_write, file_sha256, open_index_file

_REPAIR_HINT = Hint(
    "{} to fix it.",
    "Call index.check() to see what is wrong, and index.repair()",
    "Run 'mmsearch check' to see what is wrong, and 'mmsearch repair'",
)


@dataclass(frozen=True)
class CatalogChecksum:
    """Content of a checksum file.

    Attributes:
        sha256: SHA-256 of the database, in hex; None if it is marked dirty.
        size: Size of the database in bytes; 0 if it is marked dirty.
        roots: Absolute paths of the indexed folders, with their choices.
    """

    sha256: str | None
    size: int
    roots: Mapping[bytes, Mapping[str, Any]]


def checksum_path(catalog: Path) -> Path:
    """Return the path of a catalog's checksum file."""
    return catalog.with_suffix(".seal")


def read_checksum(catalog: Path) -> CatalogChecksum | None:
    """Read the checksum file of a catalog; return None if it does not exist.

    Raises:
        DamagedFileError: The checksum file is damaged.
    """
    path = checksum_path(catalog)
    try:
        with open_index_file(path) as file:
            stored = json.loads(file.read())
        _verify_self_check(stored, stored.pop("check"))
        choices = stored.get("choices", {})
        roots = {os.fsencode(root): dict(choices.get(root, {})) for root in stored["roots"]}
        return CatalogChecksum(stored["sha256"], int(stored["bytes"]), roots)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged.", _REPAIR_HINT, seal=True) from error


def verify_checksum(catalog: Path) -> bool:
    """Verify a catalog's checksum; return False if it is marked dirty or has no checksum file.

    Raises:
        DamagedFileError: The catalog does not match, or the checksum file is damaged.
    """
    stored = read_checksum(catalog)
    if stored is None or stored.sha256 is None:
        return False
    if _has_content_beside(catalog, "-wal"):
        raise DamagedFileError(f"{catalog}-wal holds changes that no writer made.", _REPAIR_HINT)
    size = catalog.stat().st_size
    if size != stored.size or file_sha256(catalog) != stored.sha256:
        if read_checksum(catalog) != stored:
            return False  # A writer has started since the checksum file was read.
        raise DamagedFileError(
            f"{catalog} does not match its checksum in {checksum_path(catalog).name}.", _REPAIR_HINT
        )
    return True


def mark_dirty(catalog: Path, roots: Mapping[bytes, Mapping[str, Any]]) -> None:
    """Mark a catalog as being written, and record its roots, unless both are already recorded.

    Args:
        catalog: The database.
        roots: Absolute paths of the indexed folders, with their choices.
    """
    dirty = CatalogChecksum(None, 0, roots)
    if read_checksum(catalog) != dirty:
        _write_checksum(catalog, dirty)


def mark_clean(catalog: Path, roots: Mapping[bytes, Mapping[str, Any]]) -> None:
    """Write the checksum of a database that has no open connections.

    If this fails, for example on a full disk, the catalog stays marked dirty.
    """
    if _has_content_beside(catalog, "-wal"):
        return
    with suppress(OSError):
        size = catalog.stat().st_size
        _write_checksum(catalog, CatalogChecksum(file_sha256(catalog), size, roots))


def _has_content_beside(catalog: Path, suffix: str) -> bool:
    return has_content(catalog.with_name(catalog.name + suffix))


def _write_checksum(catalog: Path, checksum: CatalogChecksum) -> None:
    content = {
        "sha256": checksum.sha256,
        "bytes": checksum.size,
        "roots": [os.fsdecode(root) for root in checksum.roots],
        "choices": {
            os.fsdecode(root): dict(choices) for root, choices in checksum.roots.items() if choices
        },
    }
    payload = {**content, "check": _self_check(content)}
    atomic_write(checksum_path(catalog), json.dumps(payload).encode("ascii"))


def _verify_self_check(content: Mapping[str, Any], check: str) -> None:
    if check != _self_check(content):
        raise ValueError("its own checksum is wrong")


def _self_check(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


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
