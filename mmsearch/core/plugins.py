"""Find and load a part by the name of its file, or of its entry point.

Every module of a plugin folder whose name has no leading underscore is a plugin of that name.
Packages outside join through an entry point of group ``mmsearch.<folder>``.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType

from mmsearch.core.errors import MissingExtraError, UnknownNameError


def names(folder: str) -> list[str]:
    """The plugins of a folder such as ``encoders``, sorted."""
    package = importlib.import_module(f"mmsearch.{folder}")
    here = {module.name for module in pkgutil.iter_modules(package.__path__)}
    outside = {point.name for point in entry_points(group=f"mmsearch.{folder}")}
    return sorted(name for name in here | outside if not name.startswith("_"))


def load(folder: str, name: str) -> ModuleType:
    """The module of a plugin.

    Raises:
        UnknownNameError: No plugin of that name; the message lists those there are.
        MissingExtraError: It needs a library that is not installed.
    """
    known = names(folder)
    if name not in known:
        what = folder.replace("_", " ").removesuffix("es" if folder.endswith("xes") else "s")
        raise UnknownNameError(f"There is no {what} named {name!r}.", f"Known: {', '.join(known)}.")
    outside = [point for point in entry_points(group=f"mmsearch.{folder}") if point.name == name]
    try:
        if outside:
            module: ModuleType = outside[0].load()
            return module
        return importlib.import_module(f"mmsearch.{folder}.{name}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("mmsearch", ""):
            raise
        raise MissingExtraError(
            f"{name!r} needs the Python package {missing!r}, which is not installed.",
            f"Install it with: pip install {missing}",
        ) from error
