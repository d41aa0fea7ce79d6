"""The manifest of an export: its format, its encoder, and the files that belong to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.files import create_file
from mmsearch.core.types import EncoderSpec

NAME = "mmsearch-export.json"
VERSION = 2
"""Newest version that this code reads. Exports of still pictures alone have version 1."""

_MAX_BYTES = 50_000_000
_COPY_HINT = "Copy the folder of the export again, or export the index again."


@dataclass(frozen=True)
class Manifest:
    """Description of an export.

    Attributes:
        format: ``parquet``, ``npy`` or ``clip-retrieval``.
        encoder: Encoder of the vectors.
        settings: The other settings of the index, as plain values: fusion, texts, vector index.
        roots: Indexed folders that contain the pictures, as bytes.
        sources: The other sources of pictures, each with ``kind``, ``name``, ``uri`` (bytes) and
            ``choices``.
        pictures: Number of pictures, moments and pages: that of the image vectors.
        text_vectors: Number of text vectors.
        calibration: The index's own calibration, as plain values; None if it has none.
        files: Sizes in bytes of the other files, by path below the folder.
        has_parts: True if there may be contents of several items; earlier versions of mmsearch
            would take each item for a picture.
    """

    format: str
    encoder: EncoderSpec
    settings: Mapping[str, Any]
    roots: tuple[bytes, ...]
    sources: tuple[Mapping[str, Any], ...] = ()
    pictures: int = 0
    text_vectors: int = 0
    calibration: Mapping[str, Any] | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    has_parts: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the content of the manifest file."""
        return {
            "mmsearch_export": 2 if self.has_parts else 1,
            "format": self.format,
            "pictures": self.pictures,
            "text_vectors": self.text_vectors,
            "fingerprint": self.encoder.fingerprint,
            "encoder": asdict(self.encoder),
            "dtype": "float16",
            "settings": dict(self.settings),
            "calibration": self.calibration,
            "roots": [{"path": display_path(root), "hex": root.hex()} for root in self.roots],
            "sources": [
                {**source, "uri": display_path(source["uri"]), "hex": source["uri"].hex()}
                for source in self.sources
            ],
            "files": dict(self.files),
        }


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder durably."""
    with synced_file(folder / NAME) as file:
        file.write((json.dumps(manifest.to_json(), indent=1) + "\n").encode("ascii"))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of an export; None if another program wrote the export.

    Raises:
        SourceError: The manifest is damaged, or of a newer version, or a file is missing or has
            another size.
    """
    path = folder / NAME
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    try:
        stored = json.loads(content)
        version = int(stored["mmsearch_export"])
        if version > VERSION:
            raise SourceError(
                f"{display_path(folder)} has version {version} of the export format, of a newer"
                f" mmsearch; this one reads version {VERSION}.",
                "Upgrade mmsearch.",
            )
        manifest = _parse(stored)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SourceError(
            f"{display_path(path)} is damaged ({type(error).__name__}).", _COPY_HINT
        ) from error
    _check_files(folder, manifest)
    return manifest


def _parse(stored: Mapping[str, Any]) -> Manifest:
    name, dim = stored["encoder"]["name"], stored["encoder"]["dim"]
    if not isinstance(name, str) or not isinstance(dim, int) or dim < 1:
        raise ValueError("encoder")
    encoder = EncoderSpec(**stored["encoder"])
    if encoder.fingerprint != stored["fingerprint"]:
        raise ValueError("fingerprint")
    files = {str(name): int(size) for name, size in stored["files"].items()}
    if any(".." in Path(name).parts or Path(name).is_absolute() for name in files):
        raise ValueError("a file is outside the folder")
    return Manifest(
        format=str(stored["format"]),
        encoder=encoder,
        settings=dict(stored["settings"]),
        roots=tuple(bytes.fromhex(root["hex"]) for root in stored["roots"]),
        sources=tuple(
            {
                "kind": str(source["kind"]),
                "name": str(source["name"]),
                "uri": bytes.fromhex(source["hex"]),
                "choices": dict(source["choices"]),
            }
            # Exports of earlier versions have none.
            for source in stored.get("sources", ())
        ),
        pictures=int(stored["pictures"]),
        text_vectors=int(stored["text_vectors"]),
        calibration=stored["calibration"] and dict(stored["calibration"]),
        files=files,
        has_parts=int(stored["mmsearch_export"]) > 1,
    )


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name, size in manifest.files.items():
        try:
            found = (folder / name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            problem = "is missing"
        else:
            problem = f"has {found:,} bytes instead of {size:,}" if found != size else ""
        if problem:
            raise SourceError(
                f"The export in {display_path(folder)} is not complete: {display_path(name)}"
                f" {problem}.",
                _COPY_HINT,
            )


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Create a file that is on the disk when the block ends."""
    with create_file(path) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
