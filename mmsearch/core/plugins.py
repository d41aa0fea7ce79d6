"""Discovery and loading of plugins by module name or entry point.

Every module of a plugin folder whose name has no leading underscore is a plugin of that name.
External packages add plugins, under other names, through entry points of the group
``mmsearch.<folder>``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mmsearch.core.errors import MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def names(folder: str) -> list[str]:
    """Return the sorted plugin names of a folder such as ``encoders``."""
    package = importlib.import_module(f"mmsearch.{folder}")
    builtin_names = {module.name for module in pkgutil.iter_modules(package.__path__)}
    external = {entry_point.name for entry_point in _entry_points(folder)}
    return sorted(name for name in builtin_names | external if not name.startswith("_"))


def exists(folder: str, name: str) -> bool:
    """Return True if a plugin of that name exists."""
    return _is_builtin(folder, name) or name in names(folder)


def load(folder: str, name: str, extra_names: Sequence[str] = ()) -> ModuleType:
    """Return the module of a plugin.

    Args:
        folder: The plugin folder, such as ``encoders``.
        name: Name of the plugin.
        extra_names: Other valid names that are not plugins, to list in the error message.

    Raises:
        UnknownNameError: No plugin has that name; the message lists the known names.
        MissingExtraError: The plugin needs a library that is not installed.
    """
    # Scanning all packages for entry points takes as long as a search.
    external = (
        []
        if _is_builtin(folder, name)
        else [entry_point for entry_point in _entry_points(folder) if entry_point.name == name]
    )
    if not external and not _is_builtin(folder, name):
        plugin_kind = folder.replace("_", " ").removesuffix("es" if folder.endswith("xes") else "s")
        # Indexes have sources with names of their own.
        plugin_kind = "kind of source" if folder == "sources" else plugin_kind
        known_names = ", ".join([*extra_names, *names(folder)])
        raise UnknownNameError(
            f"There is no {plugin_kind} named {name!r}.", f"Known: {known_names}."
        )
    try:
        if external:
            module: ModuleType = external[0].load()
            return module
        return importlib.import_module(f"mmsearch.{folder}.{name}")
    except ModuleNotFoundError as error:
        missing_package = (error.name or "").partition(".")[0]
        if missing_package in ("mmsearch", ""):
            raise
        raise MissingExtraError(
            f"{name!r} needs the Python package {missing_package!r}, which is not installed.",
            f"Install it with: pip install {missing_package}",
        ) from error


def require_packages(feature: str, extra: str, *packages: str) -> None:
    """Import the packages of an extra, so that work that needs them does not start without them.

    Args:
        feature: The feature that needs them, as the subject of a sentence.
        extra: Name of the extra in pyproject.toml.
        *packages: Names of the packages.

    Raises:
        MissingExtraError: A package is not installed.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingExtraError.for_extra(feature, package, extra) from error


# Every search loads its fusion by name; without the cache, file checks take 10% of its time.
@lru_cache(256)
def _is_builtin(folder: str, name: str) -> bool:
    if not name.isidentifier() or name.startswith("_"):
        return False
    module_path = Path(__file__).parents[1] / folder / name
    return module_path.with_suffix(".py").is_file() or (module_path / "__init__.py").is_file()


def _entry_points(folder: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - only for external plugins

    return tuple(entry_points(group=f"mmsearch.{folder}"))
