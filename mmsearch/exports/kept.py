"""Thumbnails and originals of pictures that are in no folder: a tar beside the vectors."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.exports.manifest import synced_file

NAME = "kept.tar"
MAX_MEMBER_BYTES = 1 << 30
_MEMBER = re.compile(r"(thumbnails|originals)/([0-9a-f]{64})(?:-([0-9]{1,9}))?(?:\.jpg)?")

Keep = Callable[[str, bytes, int, bytes], None]
"""Function of a kind (thumbnails, originals), a digest, a part and a content that adds it."""


@contextmanager
def open_writer(folder: Path) -> Iterator[Keep]:
    """Open the file and the function that adds to it."""
    path = folder / NAME
    with synced_file(path) as file, tarfile.open(fileobj=file, mode="w") as archive:

        def write(kind: str, digest: bytes, part: int, content: bytes) -> None:
            suffix = f"-{part}" if part else ""
            suffix += ".jpg" if kind == "thumbnails" else ""
            info = tarfile.TarInfo(f"{kind}/{digest.hex()}{suffix}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        yield write


def iter_kept(folder: Path) -> Iterator[tuple[str, bytes, int, bytes]]:
    """Yield kind, digest, part and content of each, as in `Keep`; nothing without the file.

    Raises:
        SourceError: The file is damaged, or has members of other names.
    """
    path = folder / NAME
    if not path.is_file():
        return
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                named = _MEMBER.fullmatch(info.name)
                file = archive.extractfile(info) if info.isreg() else None
                if named is None or file is None or info.size > MAX_MEMBER_BYTES:
                    raise SourceError(
                        f"{display_path(path)} has an unexpected member.",
                        "Export the index again.",
                    )
                yield named[1], bytes.fromhex(named[2]), int(named[3] or 0), file.read()
    except tarfile.TarError as error:
        raise SourceError(
            f"{display_path(path)} is damaged.", "Copy the folder of the export again."
        ) from error
