"""Compiled models as one file: an uncompressed tar whose first member lists all others.

An archive may come from anyone. Nothing in it is unpacked under a name of its own choice, and
nothing is installed before its size, checksum and purpose are verified and its towers have run.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mmsearch.core.display import display_path
from mmsearch.core.errors import (
    ChecksumError,
    Hint,
    MMSearchError,
    ModelUnavailableError,
    SourceError,
)
from mmsearch.core.files import NotRegularError, open_regular_file
from mmsearch.encoders._download import require_space
from mmsearch.encoders._onnx.cache import (
    MANIFEST_VERSION,
    CompiledTower,
    Manifest,
    ModelCache,
    TowerName,
)
from mmsearch.encoders._tokenizer import TextTokenizer
from mmsearch.storage.atomic import atomic_file, fsync_folder

FORMAT: Final = 1
"""Version of the format of archives."""

_LIST_NAME: Final = "mmsearch-model.json"
_MANIFEST_NAME: Final = "manifest.json"
_MAX_LIST_BYTES: Final = 1_000_000
_MAX_FILES: Final = 32
_CHUNK_BYTES: Final = 1 << 20
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ModelArchive:
    """A file with a compiled model.

    Attributes:
        path: Path of the file.
        name: Name of the model as typed after ``--model``.
        bytes: Size of the model's files.
        machine: Kind of processor that it was compiled on.
    """

    path: Path
    name: str
    bytes: int
    machine: str


def export_archive(cache: ModelCache, path: Path) -> ModelArchive:
    """Write a compiled model into a new file, which is complete or absent.

    Args:
        cache: Folder of the model, which is compiled.
        path: The file.

    Raises:
        SourceError: The file exists already, or its folder does not.
        ModelUnavailableError: The compiled files are damaged.
        DiskFullError: There is too little space.
    """
    if os.path.lexists(path):
        raise SourceError(f"{display_path(path)} exists already.", "Choose a new name.")
    if not path.parent.is_dir():
        raise SourceError(f"There is no folder {display_path(path.parent)}.", "Create it first.")
    with cache.lock():
        manifest = cache.read()
        if manifest is None or not cache.verify(_cached_files(manifest)):
            raise ModelUnavailableError(
                f"The compiled files in {display_path(cache.folder)} are damaged.",
                "Delete this folder, and pull or compile the model again.",
            )
        names = [_MANIFEST_NAME, *(file.name for file in _cached_files(manifest))]
        files = [_describe(cache.folder / name) for name in names]
        total = sum(file["bytes"] for file in files)
        require_space(path.parent, total, " for the exported model")
        listing = {
            "format": FORMAT,
            "name": manifest.spec.name,
            "folder": cache.folder.name,
            "manifest_version": MANIFEST_VERSION,
            "onnxruntime": onnxruntime.__version__,
            "machine": platform.machine(),
            "files": files,
        }
        with atomic_file(path) as target, tarfile.open(fileobj=target, mode="w|") as tar:  # type: ignore[call-overload]
            _add(tar, _LIST_NAME, json.dumps(listing, indent=2).encode())
            for file in files:
                _add(tar, file["name"], cache.folder / file["name"])
    return ModelArchive(path, manifest.spec.name, total, platform.machine())


def read_archive(path: Path) -> ModelArchive:
    """Return what a file says about the model in it, unverified.

    Raises:
        SourceError: It is no exported model.
    """
    with _open_archive(path) as tar:
        listing = _read_listing(tar, path)
    size = sum(file["bytes"] for file in listing["files"])
    return ModelArchive(path, listing["name"], size, listing["machine"])


def import_archive(path: Path, cache: ModelCache) -> ModelArchive:
    """Verify the model of a file and install it.

    Args:
        path: The file.
        cache: Folder of the model, which may exist.

    Raises:
        SourceError: The file is no exported model.
        ChecksumError: It is incomplete or was changed.
        ModelUnavailableError: It is of another version, or does not run on this machine.
        DiskFullError: There is too little space.
    """
    with _open_archive(path) as tar:
        listing = _read_listing(tar, path)
        if listing["folder"] != cache.folder.name:
            raise _version_error(path, listing)
        total = sum(file["bytes"] for file in listing["files"])
        require_space(cache.folder, total, " for the imported model")
        with cache.lock(), cache.staging_dir() as staging:
            for file in listing["files"]:
                _unpack(tar, file, staging, path)
            if _next_member(tar, path) is not None:
                raise _changed_error(path, "it contains files that its list does not name")
            _check_model(ModelCache(staging), listing, path)
            _install(staging, cache)
    return ModelArchive(path, listing["name"], total, listing["machine"])


# --- writing ---


def _cached_files(manifest: Manifest) -> list[Any]:
    """Return the files of a model without its manifest, each once."""
    towers = [file for tower in manifest.towers.values() for file in tower.files]
    return list(dict.fromkeys([manifest.tokenizer_file, *towers]))


def _describe(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest}


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    if isinstance(content, bytes):
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    else:
        info.size = content.stat().st_size
        with content.open("rb") as file:
            tar.addfile(info, file)


# --- reading ---


@contextmanager
def _open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        file = open_regular_file(path.absolute())
    except NotRegularError as error:
        raise SourceError(f"{display_path(path)} is {error.kind}, not a file.") from error
    except FileNotFoundError as error:
        raise SourceError(f"There is no file {display_path(path)}.") from error
    with file:
        try:
            # Without transparent compression, nothing can become larger than the file.
            tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - closed below
        except (tarfile.TarError, EOFError) as error:
            raise _foreign_error(path) from error
        with tar:
            yield tar


def _next_member(tar: tarfile.TarFile, path: Path) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _changed_error(path, "it ends too early or is damaged") from error


def _read_member(
    tar: tarfile.TarFile, name: str, size: int | None, path: Path
) -> tuple[tarfile.TarInfo, IO[bytes]]:
    """Return the next member of an archive, which must be a plain file of this name and size."""
    member = _next_member(tar, path)
    if member is None:
        raise _changed_error(path, "files are missing")
    content = tar.extractfile(member) if member.isreg() and not member.issparse() else None
    if content is None or member.name != name or size not in (None, member.size):
        raise _changed_error(path, f"{display_path(member.name)[:80]!r} is not what its list says")
    return member, content


def _read_listing(tar: tarfile.TarFile, path: Path) -> Mapping[str, Any]:
    """Return the list of an archive, its types and names checked."""
    member = _next_member(tar, path)
    content = tar.extractfile(member) if member is not None and member.isreg() else None
    if member is None or member.name != _LIST_NAME or content is None:
        raise _foreign_error(path)
    if member.size > _MAX_LIST_BYTES:
        raise _foreign_error(path)
    try:
        listing = json.loads(content.read())
        files = listing["files"]
        is_valid = (
            all(isinstance(listing[key], str) for key in ("name", "folder", "machine"))
            and isinstance(listing["onnxruntime"], str)
            and _FILE_NAME.fullmatch(listing["folder"])
            and 0 < len(files) <= _MAX_FILES
            and all(_is_valid_file(file) for file in files)
            and len({file["name"] for file in files}) == len(files)
            and files[0]["name"] == _MANIFEST_NAME
        )
    except (tarfile.TarError, ValueError, KeyError, TypeError, RecursionError, EOFError) as error:
        raise _foreign_error(path) from error
    if not is_valid:
        raise _foreign_error(path)
    if listing.get("format") != FORMAT or listing.get("manifest_version") != MANIFEST_VERSION:
        raise _version_error(path, listing)
    checked: Mapping[str, Any] = listing
    return checked


def _is_valid_file(file: Mapping[str, Any]) -> bool:
    size = file["bytes"]
    return (
        isinstance(size, int)
        and not isinstance(size, bool)
        and size >= 0
        and _FILE_NAME.fullmatch(file["name"]) is not None
        and _SHA256.fullmatch(file["sha256"]) is not None
        and set(file) == {"name", "bytes", "sha256"}
    )


def _unpack(tar: tarfile.TarFile, file: Mapping[str, Any], folder: Path, path: Path) -> None:
    """Write the next member of an archive into a folder and compare its checksum."""
    _, content = _read_member(tar, file["name"], file["bytes"], path)
    digest, size = hashlib.sha256(), 0
    with (folder / file["name"]).open("xb") as target:
        try:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                target.write(chunk)
        except (tarfile.TarError, EOFError) as error:
            raise _changed_error(path, "it ends too early") from error
        target.flush()
        os.fsync(target.fileno())
    if size != file["bytes"]:
        raise _changed_error(path, "it ends too early")
    if digest.hexdigest() != file["sha256"]:
        raise _changed_error(path, f"{file['name']} does not match its checksum")


# --- verification and installation ---


def _check_model(cache: ModelCache, listing: Mapping[str, Any], path: Path) -> None:
    """Check that the unpacked files are a model that runs on this machine."""
    manifest = cache.read()
    if manifest is None or manifest.spec.name != listing["name"]:
        raise _changed_error(path, "its manifest is damaged")
    names = {file["name"] for file in listing["files"]} - {_MANIFEST_NAME}
    files = _cached_files(manifest)
    if (
        {file.name for file in files} != names
        or not cache.verify(files)
        or (not _table_names(cache) <= names)
    ):
        raise _changed_error(path, "its manifest names other files")
    _check_graphs(cache, manifest, path)
    try:
        _run_towers(cache, manifest)
    # A graph of other versions or processors fails in many ways, and so does a crafted one.
    except Exception as error:
        raise ModelUnavailableError(
            f"{listing['name']} was compiled by ONNX Runtime {listing['onnxruntime']} on "
            f"{listing['machine']} and does not run here (ONNX Runtime {onnxruntime.__version__} "
            f"on {platform.machine()}).",
            "Export it on a machine with the same version of onnxruntime, or pull it here.",
        ) from error


def _table_names(cache: ModelCache) -> set[Any]:
    """Return the names of files that towers read besides their graphs."""
    stored = json.loads((cache.folder / _MANIFEST_NAME).read_bytes())
    tables = [tower.get("table") or {} for tower in stored["towers"].values()]
    return {table[key] for table in tables for key in ("name", "checksums") if key in table}


def _check_graphs(cache: ModelCache, manifest: Manifest, path: Path) -> None:
    """Refuse graphs that read weights from files other than their own."""
    import onnx  # noqa: PLC0415 - searches do not need it

    for tower in manifest.towers.values():
        own = {file.name for file in tower.files}
        try:
            graph = onnx.load(cache.folder / tower.files[0].name, load_external_data=False).graph
            locations = {
                entry.value
                for tensor in graph.initializer
                for entry in tensor.external_data
                if entry.key == "location"
            }
        # The parser raises errors of its own library.
        except Exception as error:
            raise _changed_error(path, "a graph is damaged") from error
        if not locations <= own:
            raise _changed_error(path, "a graph reads files that are not part of the model")


def _run_towers(cache: ModelCache, manifest: Manifest) -> None:
    """Encode one text and one picture.

    Raises:
        MMSearchError: The vectors have another dimension than the model.
    """
    tokenizer = TextTokenizer.from_file(
        manifest.tokenizer, cache.folder / manifest.tokenizer_file.name
    )
    edge_px = manifest.preparation.size_px
    inputs: dict[TowerName, list[NDArray[Any]]] = {
        TowerName.TEXT: [*tokenizer.pad_batch([tokenizer.prepare("a photo of a dog")])],
        TowerName.IMAGE: [np.zeros((1, edge_px, edge_px, 3), np.uint8)],
    }
    for name, tower_inputs in inputs.items():
        tower = manifest.towers[name]
        compiled = CompiledTower.from_cache(cache.folder, tower)
        if compiled.run(tower_inputs).shape != (1, manifest.spec.dim):
            raise MMSearchError(f"The {name} tower returns vectors of another dimension.")


def _install(staging: Path, cache: ModelCache) -> None:
    """Move verified files into the model's folder, its manifest last; the lock must be held."""
    # Until the new manifest is there, no process may read new files by the old one.
    (cache.folder / _MANIFEST_NAME).unlink(missing_ok=True)
    for file in sorted(staging.iterdir(), key=lambda file: file.name == _MANIFEST_NAME):
        file.replace(cache.folder / file.name)
    fsync_folder(cache.folder)


# --- errors ---


def _foreign_error(path: Path) -> SourceError:
    return SourceError(
        f"{display_path(path)} is not a model that mmsearch exported.",
        Hint("Use a file that {} wrote.", "export_model", "'mmsearch models export'"),
    )


def _changed_error(path: Path, reason: str) -> ChecksumError:
    return ChecksumError(
        f"{display_path(path)} cannot be imported: {reason}; nothing was installed.",
        "Copy it again, or export the model again.",
    )


def _version_error(path: Path, listing: Mapping[str, Any]) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"{display_path(path)} was exported by another version of mmsearch, which stores "
        f"{display_path(listing['name'])[:80]} differently.",
        "Use the same version of mmsearch on both machines, and export the model again.",
    )
