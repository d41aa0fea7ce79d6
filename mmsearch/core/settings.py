"""Settings from defaults, the settings file, the environment and flags; the last one set wins."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from mmsearch.core.arguments import check_arguments, check_fields
from mmsearch.core.errors import DecodeError, UnknownNameError, UsageError
from mmsearch.core.files import expand_user, open_source_file, os_error_reason

ENVIRONMENT_PREFIX = "MMSEARCH_"
MAX_FILE_BYTES = 10_000
"""Maximum size of the settings file: Python's TOML parser takes quadratic time."""
MAX_NUMBER = 2**53

Toml = TypeVar("Toml", bound=MutableMapping[str, Any])
Number = TypeVar("Number", int, float)

_EXPECTED_VALUES: dict[type, str] = defaultdict(
    lambda: "a string",
    {bool: "true or false", int: "a whole number from 0", float: "a number from 0"},
)


DEVICES = ("auto", "cuda", "mps", "cpu")
"""Values of the setting ``device``."""

EXECUTORS = ("local", "ray")
"""Values of the setting ``executor``."""


@dataclass(frozen=True)
class Settings:
    """Settings for all commands.

    Attributes:
        home: Folder of the indexes; None: ``./indexes`` if it exists, else the user's data folder.
        model: Encoder for new indexes: ``auto``, ``starter`` or ``open_clip:ARCH/TAG``.
        device: ``auto`` (cuda, then mps, then cpu), ``cuda``, ``mps`` or ``cpu``.
        fusion: Name of the fusion for new indexes.
        text_weight: Share of a picture's texts in its fused vector, 0..1, for new indexes.
        texts: Sources of the texts that get a vector: ``sidecar``, ``metadata``, ``table``,
            ``filename`` and ``document`` (the words of pages), joined by commas, or ``none``; for
            new indexes.
        blend: Name of the rank fusion that merges visual and text matches.
        vector_index: Name of the vector index for new indexes; ``auto``: exact search up to a
            limit, approximate search beyond it.
        max_pixels: Maximum number of pixels; larger pictures are refused before decoding.
        decode_timeout_s: Maximum seconds to decode a picture; slower pictures are refused.
        decode_memory_mb: Maximum megabytes of memory to decode a picture; 0: no limit.
        workers: Number of decode processes, 0 for one per processor; or of workers on a cluster,
            0 for one per node or GPU.
        executor: Where folders and other sources are indexed: ``local``, or ``ray`` for the nodes
            of a Ray cluster.
        ray_address: HOST:PORT of the head of the Ray cluster; empty for ``$RAY_ADDRESS``, or else
            a cluster on this computer for the length of a run.
        gpus_per_worker: GPUs of each worker on a cluster; workers share one if it is below 1.
        cache: Folder of compiled models and thumbnails.
        thumbnails_mb: Maximum megabytes of thumbnails that a server keeps in the cache; the least
            recently used are evicted. 0 disables the thumbnail cache.
        follow_symlinks: Show thumbnails, originals and contact sheets of pictures that links lead
            to outside the indexed folder. For folders indexed with ``--follow-symlinks``.
        offline: Never contact a model hub.
        precision: ``auto``: int8 on the CPU for models whose vectors stay the same (cosine of at
            least 0.995); or ``float32``.
        speech_model: Model that recognizes speech, in queries and in films: ``auto`` (the best one
            installed), ``base``, ``tiny.en``, or the folder of a model of Whisper in the format of
            CTranslate2.
    """

    home: Path | None = None
    model: str = "auto"
    device: str = "auto"
    fusion: str = "image"
    text_weight: float = 0.3
    texts: str = "sidecar,metadata,table"
    blend: str = "log_odds"
    vector_index: str = "auto"
    max_pixels: int = 300_000_000
    decode_timeout_s: float = 120.0
    decode_memory_mb: int = 4096
    workers: int = 0
    executor: str = "local"
    ray_address: str = ""
    gpus_per_worker: float = 0.0
    cache: Path = field(default_factory=lambda: platformdirs.user_cache_path("mmsearch"))
    thumbnails_mb: int = 1024
    follow_symlinks: bool = False
    offline: bool = False
    precision: str = "auto"
    speech_model: str = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.device not in DEVICES:
            raise UsageError(f"Unknown device {self.device!r}.", f"Known: {', '.join(DEVICES)}.")
        if self.executor not in EXECUTORS:
            raise UsageError(
                f"Unknown executor {self.executor!r}.", f"Known: {', '.join(EXECUTORS)}."
            )

    def with_flags(self, **flags: object) -> Settings:
        """Return a copy in which each flag that is not None replaces the setting of its name."""
        return replace(self, **{k: v for k, v in flags.items() if v is not None})  # type: ignore[arg-type]

    def indexes_home(self) -> Path:
        """Return the folder of the indexes."""
        if self.home is not None:
            return expand_user(self.home)
        if Path("indexes").is_dir():
            return Path("indexes").resolve()
        return platformdirs.user_data_path("mmsearch") / "indexes"


def settings_file(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the settings file.

    It is ``$MMSEARCH_CONFIG``, or else ``settings.toml`` in the user's configuration folder.
    """
    configured_path = environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    return (
        Path(configured_path)
        if configured_path
        else platformdirs.user_config_path("mmsearch") / "settings.toml"
    )


@check_arguments()
def load_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Load the defaults, then the settings file, then ``MMSEARCH_*`` variables.

    Raises:
        UsageError: A value does not have the type of its setting, or the file is not TOML.
        UnknownNameError: The file sets an unknown setting.
    """
    values: dict[str, Any] = {}
    path = settings_file(environment)
    if os.path.lexists(path):
        import tomllib  # noqa: PLC0415 - most users have no settings file

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
        Path of the settings file.

    Raises:
        UsageError: The existing file cannot be read.
    """
    # Only the command that writes settings needs these imports.
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
    """Read and parse the settings file, which may have at most `MAX_FILE_BYTES`."""
    try:
        with open_source_file(os.fsencode(path)) as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (DecodeError, OSError) as error:
        reason = os_error_reason(error) if isinstance(error, OSError) else error.message
        raise UsageError(
            f"The settings file {path} cannot be read: {reason}.", "Fix or remove it."
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(
            f"The settings file {path} is larger than {MAX_FILE_BYTES:,} bytes.",
            "Fix or remove it.",
        )
    try:
        return parse(content.decode("utf-8-sig"))
    # ValueError: invalid TOML, invalid UTF-8, or a number with thousands of digits.
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0][:200] if isinstance(error, ValueError) else "too deep"
        raise UsageError(
            f"The settings file {path} is not TOML: {reason}.", "Fix or remove it."
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
    """Return a number or a string as a string."""
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
    """Return the repr of a value for messages; long values are cut, huge numbers described."""
    try:
        quoted = repr(value)
    except (ValueError, RecursionError):
        return "A number that is too long"
    return quoted if len(quoted) <= 60 else f"{quoted[:60]}..."
