"""Recordings that a program passes, as the content of a file or as samples."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mmsearch.core.arguments import describe_value
from mmsearch.core.display import display_path
from mmsearch.core.errors import DecodeError, SourceError, UsageError
from mmsearch.core.files import expand_user, open_source_file
from mmsearch.core.speech import MAX_SOUND_BYTES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HINT = (
    "A recording is a path, the bytes of a file, or a float array of shape (n,) with samples at "
    "16 kHz in mono, from -1 to 1."
)


def read_sound(sound: Any) -> tuple[bytes | NDArray[np.float32], str]:
    """Return a recording for a `Listener`, and its name as the subject of messages.

    Args:
        sound: See `mmsearch.Index.listen`.

    Raises:
        SourceError: The file cannot be read, or is too large.
        UsageError: The recording is of another type or shape.
    """
    if isinstance(sound, bytes | bytearray):
        content, name = bytes(sound), "The recording"
    elif isinstance(sound, str | os.PathLike):
        content, name = _read_file(sound)
    elif hasattr(sound, "shape") and hasattr(sound, "dtype"):
        return _check_samples(sound), "The recording"
    else:
        raise UsageError(f"The recording must be a sound, got {describe_value(sound)}.", _HINT)
    if len(content) > MAX_SOUND_BYTES:
        raise SourceError(
            f"{name} is larger than {MAX_SOUND_BYTES // 1_000_000} MB.", "Ask a shorter question."
        )
    return content, name


def _read_file(sound: str | os.PathLike[str]) -> tuple[bytes, str]:
    path = expand_user(sound)
    name = display_path(path)
    if not str(sound):
        raise UsageError("The path of the recording is empty.", _HINT)
    try:
        with open_source_file(os.fsencode(path.absolute())) as file:
            return file.read(MAX_SOUND_BYTES + 1), name
    except DecodeError as error:
        raise SourceError(
            f"{name} cannot be read: {error.message}.", "Give the path of a sound file."
        ) from error
    except OSError as error:
        raise SourceError(
            f"{name} cannot be read: {error.strerror}.", "Check the file and its disk."
        ) from error


def _check_samples(sound: Any) -> NDArray[np.float32]:
    import numpy as np  # noqa: PLC0415 - most recordings are files

    samples = np.asarray(sound)
    if samples.ndim != 1 or samples.dtype.kind != "f" or not len(samples):
        raise UsageError(
            f"An array of {samples.dtype} and shape {samples.shape} is not a recording.", _HINT
        )
    if not np.isfinite(samples).all() or np.abs(samples).max() > 1.0:
        raise UsageError("The samples of the recording are not between -1 and 1.", _HINT)
    return np.ascontiguousarray(samples, dtype=np.float32)
