"""The checksum of a catalog that nobody writes.

SQLite notices damage to its structure, not to what the rows say. So a writer that ends leaves a
seal beside the database, with the size and the sha256 of the file, and a writer that begins
compares it and opens it. A seal that is open says that the last writer was killed, or is at work:
then the structure alone can be checked. The seal also keeps where the pictures are, for the day on
which the catalog cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmsearch.catalog.connection import has_content
from mmsearch.core.errors import DamagedFileError
from mmsearch.storage.atomic import atomic_write, file_sha256, open_index_file

_REPAIR_HINT = "Run 'mmsearch check' to see what is wrong, and 'mmsearch repair' to mend it."


@dataclass(frozen=True)
class CatalogChecksum:
    """What a seal says.

    Attributes:
        sha256: Of the database; None if the seal is open.
        size: Bytes of the database.
        roots: Absolute folders that are indexed.
    """

    sha256: str | None
    size: int
    roots: tuple[bytes, ...]


def checksum_path(catalog: Path) -> Path:
    """The file of a catalog's seal."""
    return catalog.with_suffix(".seal")


def read_checksum(catalog: Path) -> CatalogChecksum | None:
    """The seal of a catalog; None if it has none.

    Raises:
        DamagedFileError: It cannot be read.
    """
    path = checksum_path(catalog)
    try:
        with open_index_file(path) as file:
            stored = json.loads(file.read())
        _verify_self_check(stored, stored.pop("check"))
        roots = tuple(os.fsencode(root) for root in stored["roots"])
        return CatalogChecksum(stored["sha256"], int(stored["bytes"]), roots)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged.", _REPAIR_HINT, seal=True) from error


def verify_checksum(catalog: Path) -> bool:
    """Compare a catalog with its seal; False if the seal is open or missing.

    Raises:
        DamagedFileError: The catalog is not what was sealed, or the seal cannot be read.
    """
    stored = read_checksum(catalog)
    if stored is None or stored.sha256 is None:
        return False
    if _has_content_beside(catalog, "-wal"):
        raise DamagedFileError(f"{catalog}-wal holds changes that no writer made.", _REPAIR_HINT)
    size = catalog.stat().st_size
    if size != stored.size or file_sha256(catalog) != stored.sha256:
        if read_checksum(catalog) != stored:
            return False  # A writer has begun since the seal was read.
        raise DamagedFileError(
            f"{catalog} does not match its checksum in {checksum_path(catalog).name}.", _REPAIR_HINT
        )
    return True


def mark_dirty(catalog: Path, roots: Sequence[bytes]) -> None:
    """Say that a writer is at work, if the seal does not say so already."""
    dirty = CatalogChecksum(None, 0, tuple(roots))
    if read_checksum(catalog) != dirty:
        _write_checksum(catalog, dirty)


def mark_clean(catalog: Path, roots: Sequence[bytes]) -> None:
    """Seal a database to which no connection is open any more.

    Where that cannot be done, as on a full disk, the seal stays open.
    """
    if _has_content_beside(catalog, "-wal"):
        return
    with suppress(OSError):
        size = catalog.stat().st_size
        _write_checksum(catalog, CatalogChecksum(file_sha256(catalog), size, tuple(roots)))


def _has_content_beside(catalog: Path, suffix: str) -> bool:
    return has_content(catalog.with_name(catalog.name + suffix))


def _write_checksum(catalog: Path, checksum: CatalogChecksum) -> None:
    content = {
        "sha256": checksum.sha256,
        "bytes": checksum.size,
        "roots": [os.fsdecode(root) for root in checksum.roots],
    }
    payload = {**content, "check": _self_check(content)}
    atomic_write(checksum_path(catalog), json.dumps(payload).encode("ascii"))


def _verify_self_check(content: Mapping[str, Any], check: str) -> None:
    if check != _self_check(content):
        raise ValueError("its own checksum is wrong")


def _self_check(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()
