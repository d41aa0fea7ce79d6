"""Find and load a part by the name of its file, or of its entry point.

Every module of a plugin folder whose name has no leading underscore is a plugin of that name.
Packages outside join through an entry point of group ``mmsearch.<folder>``, under other names.
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
    """The plugins of a folder such as ``encoders``, sorted."""
    package = importlib.import_module(f"mmsearch.{folder}")
    builtin_names = {module.name for module in pkgutil.iter_modules(package.__path__)}
    external = {entry_point.name for entry_point in _entry_points(folder)}
    return sorted(name for name in builtin_names | external if not name.startswith("_"))


def exists(folder: str, name: str) -> bool:
    """Whether there is a plugin of that name."""
    return _is_builtin(folder, name) or name in names(folder)


def load(folder: str, name: str, extra_names: Sequence[str] = ()) -> ModuleType:
    """The module of a plugin.

    Args:
        folder: Such as ``encoders``.
        name: Of the plugin.
        extra_names: Names that may stand in its place, though they are no plugin's: for the message.

    Raises:
        UnknownNameError: No plugin of that name; the message lists those there are.
        MissingExtraError: It needs a library that is not installed.
    """
    # Looking through all packages for entry points takes as long as a search.
    external = (
        []
        if _is_builtin(folder, name)
        else [entry_point for entry_point in _entry_points(folder) if entry_point.name == name]
    )
    if not external and not _is_builtin(folder, name):
        plugin_kind = folder.replace("_", " ").removesuffix("es" if folder.endswith("xes") else "s")
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


# A search asks for its fusion by name, and looking at files takes a tenth of it.
@lru_cache(256)
def _is_builtin(folder: str, name: str) -> bool:
    if not name.isidentifier() or name.startswith("_"):
        return False
    module_path = Path(__file__).parents[1] / folder / name
    return module_path.with_suffix(".py").is_file() or (module_path / "__init__.py").is_file()


def _entry_points(folder: str) -> tuple[EntryPoint, ...]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - only for parts that are not ours

    return tuple(entry_points(group=f"mmsearch.{folder}"))
