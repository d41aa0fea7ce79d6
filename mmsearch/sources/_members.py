"""Members of archives: their names, the texts beside pictures, and what is refused."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from mmsearch.core.errors import DecodeError, MissingExtraError, MMSearchError, SourceError
from mmsearch.core.sources import SourceItem
from mmsearch.core.texts import JSON_TEXT_FIELDS, iter_json_texts, parse_plain_sidecar
from mmsearch.core.types import Text

MAX_MEMBER_BYTES: Final = 1 << 28
"""Maximum size of a picture in an archive, in bytes."""

MAX_SIDECAR_BYTES: Final = 1_000_000
"""Maximum size of a text beside a picture, in bytes."""

BASE_MAX_BYTES: Final = 1 << 30
MAX_GROWTH_RATIO: Final = 200
"""Maximum ratio of the contents of an archive to its size, beyond `BASE_MAX_BYTES` in total.

Pictures are compressed already, so that archives of pictures hardly shrink.
"""

SIDECAR_SUFFIXES: Final = (b"txt", b"cap", b"caption", b"json")
"""Suffixes of texts beside pictures, in lower case."""

TAR_ERRORS: Final = (
    *(tarfile.TarError, OSError, EOFError, ValueError, LookupError, OverflowError),
    *(RecursionError, zlib.error, lzma.LZMAError, TypeError, AttributeError, MemoryError),
)
"""Errors that the parser of tar headers lets through for damaged input."""

ZIP_ERRORS: Final = (zipfile.BadZipFile, NotImplementedError, RuntimeError, *TAR_ERRORS)
"""Errors that the parser of zips lets through for damaged input."""

LINK: Final = "it is a link, which is not followed"
SAME_NAME: Final = "another member of the archive has the same name"
MISSING: Final = "the archive has no such member"

_SYSTEM_FOLDER: Final = b"__macosx"

IsPicture = Callable[[bytes, bytes], bool]
"""Returns True for the name and the first bytes of a picture."""


class LimitError(Exception):
    """An archive exceeds a limit; the message is the reason as a clause."""


def bomb_error() -> LimitError:
    """Return the error for an archive that expands to more than its budget."""
    return LimitError(
        f"it expands to more than {MAX_GROWTH_RATIO} times its size, as no archive of pictures does"
    )


def max_bytes(name: bytes) -> int:
    """Return the maximum size of a member of that name."""
    return MAX_SIDECAR_BYTES if is_sidecar(name) else MAX_MEMBER_BYTES


def too_large(name: bytes) -> str:
    """Return the reason to refuse a member that is larger than `max_bytes`."""
    return f"it is larger than {max_bytes(name) / 1e6:.0f} MB"


def normalize_name(name: bytes) -> tuple[bytes, str | None]:
    """Return the name of a member without needless parts, and the reason to refuse it, if any."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    normalized = b"/".join(parts)
    if not parts or b"\0" in name:
        return name.replace(b"\0", b""), "it has no valid name"
    # Windows reads both slashes, and a drive before a colon.
    is_absolute = any(
        form.startswith((b"/", b"\\")) or (form[1:2] == b":" and form[:1].isalpha())
        for form in (name, normalized)
    )
    if is_absolute or b".." in name.replace(b"\\", b"/").split(b"/"):
        return name, "its name leads out of the archive"
    return normalized, None


def is_hidden(name: bytes) -> bool:
    """Return True if a part of a name begins with a dot, or is a folder of a system."""
    return any(
        (part.startswith(b".") and part != b"..") or part.lower() == _SYSTEM_FOLDER
        for part in name.split(b"/")
    )


def is_sidecar(name: bytes) -> bool:
    """Return True if a member is a text beside a picture by its name."""
    return _suffix(name) in SIDECAR_SUFFIXES


def _suffix(name: bytes) -> bytes:
    return name.rpartition(b"/")[2].rpartition(b".")[2].lower()


def without_suffix(name: bytes) -> bytes:
    folder, slash, base = name.rpartition(b"/")
    return folder + slash + base.rpartition(b".")[0]


def sample_key(name: bytes) -> bytes:
    """Return the name of the sample of a member, as webdataset forms it: up to the first dot."""
    folder, slash, base = name.rpartition(b"/")
    return folder + slash + base.partition(b".")[0]


def stems(name: bytes) -> tuple[bytes, ...]:
    """Return the names without suffix that the sidecars of a picture may have."""
    return tuple(dict.fromkeys((name, without_suffix(name), sample_key(name))))


def parse_sidecar(name: bytes, content: bytes) -> tuple[tuple[Text, ...], dict[str, Any]]:
    """Return the texts and the other values of a sidecar; ValueError if it is damaged."""
    if _suffix(name) != b"json":
        return parse_plain_sidecar(content), {}
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    if not isinstance(value, dict):
        return (), {}
    lower = {key.lower(): item for key, item in value.items()}
    others = {key: item for key, item in value.items() if key.lower() not in JSON_TEXT_FIELDS}
    return tuple(iter_json_texts(lower)), others


def make_item(
    key: bytes,
    stamp: bytes,
    load: Callable[[], bytes],
    size: int,
    sidecars: Sequence[tuple[tuple[Text, ...], dict[str, Any]]],
) -> SourceItem:
    texts = dict.fromkeys(text for texts, _ in sidecars for text in texts)
    metadata: dict[str, Any] = {}
    for _, values in sidecars:
        metadata = values | metadata
    return SourceItem(key, stamp, load, size, tuple(texts), metadata)


def failure_reason(error: BaseException) -> str:
    """Return the reason of a failed read as a clause."""
    if isinstance(error, DecodeError | SourceError | MissingExtraError):
        return clause(error.message)
    if isinstance(error, OSError) and not isinstance(error, io.UnsupportedOperation):
        return f"it cannot be read: {(error.strerror or str(error)).lower()}"
    if isinstance(error, LimitError) or str(error).startswith("it is not "):
        return str(error)
    return next(
        (reason for kind, reason in _REASONS.items() if isinstance(error, kind)),
        "the archive is damaged",
    )


_REASONS: Final = {
    MemoryError: "it needs more memory than this machine has",
    NotImplementedError: "it is compressed by a method that is not supported",
    EOFError: "the archive ends early",
}


def is_transient(error: BaseException) -> bool:
    """Return True if a retry of a failed read may succeed."""
    if isinstance(error, MMSearchError):
        return bool(error.details.get("transient"))
    return isinstance(error, OSError)


def clause(message: str) -> str:
    """Return a sentence as a clause."""
    return message.rstrip(".")
