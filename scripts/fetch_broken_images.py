"""Fetch public pictures that once broke decoders, or were made to break them.

They come from Pillow's source distribution (MIT-CMU) and the Debian sources of libpng with
PngSuite, libtiff, libjpeg-turbo, libwebp, OpenJPEG and giflib, under their own licences, and are
not part of this repository.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
from pathlib import Path

from starter_packages import FetchError, require_program

DEBIAN = ("libpng1.6", "tiff", "libjpeg-turbo", "libwebp", "openjpeg2", "giflib")
SUFFIXES = {
    ".apng", ".avif", ".bmp", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg",
    ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp",
}  # fmt: skip


def run(command: list[str], folder: Path) -> str:
    """Run a program and return its standard output.

    Raises:
        FetchError: The program failed.
    """
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        raise FetchError(f"{' '.join(command)} failed: {result.stderr.strip()[-500:]}")
    return result.stdout


def fetch_pillow(downloads: Path) -> None:
    """Download Pillow's source distribution."""
    if not list(downloads.glob("pillow-*.tar.gz")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run([*command, "--no-binary", ":all:", "pillow"], downloads)


def fetch_debian_sources(downloads: Path) -> None:
    """Download Debian sources with apt, using a separate source list instead of the system's."""
    if all(list(downloads.glob(f"{name}_*.orig.tar.*")) for name in DEBIAN):
        return
    require_program("apt-get", "apt")
    listing = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages"], downloads,
    )  # fmt: skip
    sources = downloads / "sources.list"
    # Not every mirror has the sources of security updates, and their pictures are the same.
    repositories = (line for line in listing.splitlines() if line and "security" not in line)
    lines = sorted({f"deb-src [trusted=yes] {line}" for line in repositories})
    sources.write_text("\n".join(lines) + "\n")
    lists = downloads / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    options = [
        "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-",
        "-o", f"Dir::State::lists={lists}", "-o", "APT::Sandbox::User=root",
    ]  # fmt: skip
    run(["apt-get", *options, "update"], downloads)
    run(["apt-get", *options, "source", "--download-only", *DEBIAN], downloads)


def unpack(archive: Path, folder: Path) -> int:
    """Extract the pictures of an archive under numbered names and return their count."""
    count = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            suffix = Path(member.name).suffix.lower()
            if not member.isfile() or suffix not in SUFFIXES:
                continue
            content = tar.extractfile(member)
            if content is not None:
                count += 1
                name = f"{archive.name.split('_')[0].split('.tar')[0]}-{count:04d}-"
                (folder / (name + Path(member.name).name)).write_bytes(content.read())
    return count


def main() -> int:
    """Fetch and unpack the pictures, and print their count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("tests/.broken_images"))
    folder = parser.parse_args().folder.absolute()
    downloads = folder / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        fetch_pillow(downloads)
        fetch_debian_sources(downloads)
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    archives = [*downloads.glob("pillow-*.tar.gz"), *downloads.glob("*.orig.tar.*")]
    total = sum(unpack(path, folder) for path in archives if not path.name.endswith(".asc"))
    print(f"{total:,} pictures in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
