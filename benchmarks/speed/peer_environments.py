"""Separate environments for peers, whose requirements may conflict with those of mmsearch."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path


class PeerUnavailableError(Exception):
    """Error for a peer that could not be installed; its rows stay empty."""


def find_peer_python(name: str, requirements: Sequence[str]) -> Path | None:
    """Return the Python interpreter of a peer's environment; None if it was never created."""
    folder = _environment_folder(name, requirements)
    return folder / "bin/python" if (folder / "installed").is_file() else None


def _environment_folder(name: str, requirements: Sequence[str]) -> Path:
    key = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    return user_cache_path("mmsearch") / "peers" / f"{name}-{key}"


def ensure_peer_python(name: str, requirements: Sequence[str]) -> Path:
    """Return the Python interpreter of a peer's environment, and create it on first use.

    Args:
        name: Name of the environment's folder in the user's cache.
        requirements: Requirements for pip, with versions.

    Raises:
        PeerUnavailableError: pip cannot install them.
    """
    found = find_peer_python(name, requirements)
    if found is not None:
        return found
    folder = _environment_folder(name, requirements)
    python, marker = folder / "bin/python", folder / "installed"
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*install, *requirements], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["pip said nothing"]
        raise PeerUnavailableError(f"{name} cannot be installed: {lines[-1]}")
    marker.touch()
    return python
