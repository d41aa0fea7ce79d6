"""Numbered tars with tables beside them, as img2dataset writes them: 00000.tar, 00000.parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mmsearch.sources._local import file_stamp

_DIGITS: Final = range(3, 9)


def find_table(tar: bytes) -> Path | None:
    """Return the path of the table beside a tar; None without one."""
    stem, suffix = os.path.splitext(tar)  # noqa: PTH122 - bytes
    table = stem + b".parquet"
    return Path(os.fsdecode(table)) if suffix == b".tar" and os.path.isfile(table) else None  # noqa: PTH113


def is_shards_folder(folder: bytes) -> bool:
    """Return True if a folder has tars with tables beside them, as img2dataset names them."""
    tars = (os.path.join(folder, b"0" * digits + b".tar") for digits in _DIGITS)  # noqa: PTH118
    return any(os.path.isfile(tar) and find_table(tar) for tar in tars)  # noqa: PTH113


def list_shards(folder: bytes) -> list[bytes]:
    """Return the paths of the tars with numbers as names in a folder, sorted."""
    names = [name for name in os.listdir(folder) if name.endswith(b".tar")]  # noqa: PTH208
    return [os.path.join(folder, name) for name in sorted(names) if name[:-4].isdigit()]  # noqa: PTH118


def stamp_with_table(tar: bytes) -> bytes:
    """Return the stamp of a tar, which also changes with the table beside it.

    Raises:
        SourceError: There is no such file.
    """
    table = find_table(tar)
    stamp = file_stamp(tar)
    return stamp if table is None else stamp + b"+" + file_stamp(os.fsencode(table))
