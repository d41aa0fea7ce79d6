"""Programs to be beaten, each in an environment of its own: their requirements are not ours."""

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
    """A peer could not be installed; its rows stay empty."""


def ensure_peer_python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment that holds a peer; made when it is first asked for.

    Args:
        name: Of its folder in the user's cache.
        requirements: As pip takes them, with versions.

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
