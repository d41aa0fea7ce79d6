"""One frozen Settings: defaults < file < environment < flags; built once, passed down."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from mmsearch.core.errors import DecodeError, UnknownNameError, UsageError
from mmsearch.core.files import expand_user, open_source_file, os_error_reason

ENVIRONMENT_PREFIX = "MMSEARCH_"
MAX_FILE_BYTES = 10_000
"""Python's parser of TOML takes quadratic time."""
MAX_NUMBER = 2**53

Toml = TypeVar("Toml", bound=MutableMapping[str, Any])
Number = TypeVar("Number", int, float)

_EXPECTED_VALUES: dict[type, str] = defaultdict(
    lambda: "a text",
    {bool: "true or false", int: "a whole number from 0", float: "a number from 0"},
)


@dataclass(frozen=True)
class Settings:
    """Everything that can be set once for all commands.

    Attributes:
        home: Folder of the indexes; None means: ``./indexes`` if it exists, else the user's
            data folder.
        model: Encoder for new indexes: ``auto``, ``starter`` or ``open_clip:ARCH/TAG``.
        device: ``auto`` (cuda, then mps, then cpu), ``cuda``, ``mps`` or ``cpu``.
        fusion: Name of the fusion for new indexes.
        text_weight: Share of a picture's texts in its fused vector, 0..1, for new indexes.
        texts: Where texts that get a vector come from: ``sidecar``, ``metadata``, ``table`` and
            ``filename``, joined by commas, or ``none``; for new indexes.
        blend: Name of the ranking that joins pictures found by look and by text.
        vector_index: Name of the vector index for new indexes; ``auto``: exact search as far as it
            goes, then an approximate one.
        max_pixels: Larger pictures are refused before they are decoded.
        decode_timeout_s: A picture that takes longer to decode is refused.
        decode_memory_mb: A picture that takes more megabytes of memory is refused; 0: no limit.
        workers: Decode processes; 0 means one for each processor.
        cache: Folder of compiled models and thumbnails.
        thumbnails_mb: Megabytes of thumbnails that a server keeps there; the least recently used
            are dropped. 0: none are kept.
        follow_symlinks: Show pictures that lie outside of the folder that was indexed, behind links
            in it: thumbnails, originals, contact sheets. For what was indexed with
            ``--follow-symlinks``.
        offline: Never ask a model hub.
        precision: ``auto``: a model computes in int8 on the CPU where its vectors stay the same
            (cosine 0.995 at least); or ``float32``.
    """

    home: Path | None = None
    model: str = "auto"
    device: str = "auto"
    fusion: str = "image"
    text_weight: float = 0.3
    texts: str = "sidecar,metadata,table"
    blend: str = "weighted_sum"
    vector_index: str = "auto"
    max_pixels: int = 300_000_000
    decode_timeout_s: float = 120.0
    decode_memory_mb: int = 4096
    workers: int = 0
    cache: Path = field(default_factory=lambda: platformdirs.user_cache_path("mmsearch"))
    thumbnails_mb: int = 1024
    follow_symlinks: bool = False
    offline: bool = False
    precision: str = "auto"

    def with_flags(self, **flags: object) -> Settings:
        """Settings in which every flag that is not None replaces the value of its name."""
        return replace(self, **{k: v for k, v in flags.items() if v is not None})  # type: ignore[arg-type]

    def indexes_home(self) -> Path:
        """The folder that holds the indexes."""
        if self.home is not None:
            return expand_user(self.home)
        if Path("indexes").is_dir():
            return Path("indexes").resolve()
        return platformdirs.user_data_path("mmsearch") / "indexes"


def settings_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the user's settings are: ``$MMSEARCH_CONFIG``, else the user's config folder."""
    configured_path = environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    return (
        Path(configured_path)
        if configured_path
        else platformdirs.user_config_path("mmsearch") / "settings.toml"
    )


def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Defaults, then the settings file, then ``MMSEARCH_*`` variables.

    Raises:
        UsageError: A value is not of its setting's type, or the file is not TOML.
        UnknownNameError: The file sets something that is no setting.
    """
    values: dict[str, Any] = {}
    path = settings_file(environment)
    if os.path.lexists(path):
        import tomllib  # noqa: PLC0415 - most have no such file

        stored = _parse_toml(path, tomllib.loads)
        known_names = {setting.name for setting in fields(Settings)}
        for name, value in stored.items():
            if name not in known_names:
                raise UnknownNameError(
                    f"The settings file {path} sets {name[:60]!r}, which is not a setting.",
                    f"Known: {', '.join(sorted(known_names))}.",
                )
            values[name] = _parse_value(name, value, f"in {path}")
    for setting in fields(Settings):
        variable = ENVIRONMENT_PREFIX + setting.name.upper()
        if environment.get(variable):
            values[setting.name] = _parse_value(
                setting.name, environment[variable], f"in ${variable}"
            )
    return Settings(**values)


def save_setting(name: str, value: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Write one setting to the settings file, keeping everything else in it.

    Returns:
        The file.

    Raises:
        UsageError: The file that there is cannot be read.
    """
    # Only the one command that writes settings needs these.
    import tomlkit  # noqa: PLC0415

    from mmsearch.core.files import create_file, create_folder  # noqa: PLC0415

    path = settings_file(environment)
    create_folder(path.parent)
    document = _parse_toml(path, tomlkit.parse) if os.path.lexists(path) else tomlkit.document()
    document[name] = value
    temporary_path = path.with_suffix(".tmp")
    with create_file(temporary_path) as file:
        file.write(tomlkit.dumps(document).encode())
    temporary_path.replace(path)
    return path


def _parse_toml(path: Path, parse: Callable[[str], Toml]) -> Toml:
    """Read the settings file, of at most `MAX_FILE_BYTES`."""
    try:
        with open_source_file(os.fsencode(path)) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (DecodeError, OSError) as error:
        reason = os_error_reason(error) if isinstance(error, OSError) else error.message
        raise UsageError(
            f"The settings file {path} cannot be read: {reason}.", "Mend it, or remove it."
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(
            f"The settings file {path} is larger than {MAX_FILE_BYTES:,} bytes.",
            "Mend it, or remove it.",
        )
    try:
        return parse(content.decode("utf-8-sig"))
    # ValueError: no TOML, no UTF-8, or a number of thousands of digits.
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if isinstance(error, ValueError) else "too deep"
        raise UsageError(
            f"The settings file {path} is not TOML: {reason}.", "Mend it, or remove it."
        ) from error


def _parse_value(name: str, value: object, origin: str) -> object:
    default = getattr(Settings(), name)
    try:
        if isinstance(default, bool):
            return {"1": True, "true": True, "0": False, "false": False}[str(value).lower()]
        if isinstance(default, int):
            return _require_non_negative(int(_require_scalar(value)))
        if isinstance(default, float):
            return _require_non_negative(float(_require_scalar(value)))
        text = _require_text(value)
        return expand_user(text) if name in ("home", "cache") else text
    except (KeyError, ValueError):
        raise UsageError(
            f"{_quote_value(value)} {origin} is not a value for the setting {name!r}.",
            f"It takes {_EXPECTED_VALUES[type(default)]}.",
        ) from None


def _require_scalar(value: object) -> str:
    """Return a number or a text as text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(value)  # noqa: TRY004 - one error for every value that does not fit
    return str(value)


def _require_text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(value)
    return value


def _require_non_negative(number: Number) -> Number:
    if not 0 <= number < MAX_NUMBER:
        raise ValueError(number)
    return number


def _quote_value(value: object) -> str:
    """Return a value as a person may see it: a number of thousands of digits is cut short."""
    try:
        quoted = repr(value)
    except (ValueError, RecursionError):
        return "A number that is too long"
    return quoted if len(quoted) <= 60 else f"{quoted[:60]}..."
