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


def ensure_peer_python(name: str, requirements: Sequence[str]) -> Path:
    """Return the Python interpreter of a peer's environment, and create it on first use.

    Args:
        name: Name of the environment's folder in the user's cache.
        requirements: Requirements for pip, with versions.

    Raises:
        PeerUnavailableError: pip cannot install them.
    """
    key = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = user_cache_path("mmsearch") / "peers" / f"{name}-{key}"
    python, marker = folder / "bin/python", folder / "installed"
    if marker.is_file():
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    result = subprocess.run([*install, *requirements], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["pip said nothing"]
        raise PeerUnavailableError(f"{name} cannot be installed: {lines[-1]}")
    marker.touch()
    return python
