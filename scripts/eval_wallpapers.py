"""Photographs out of wallpaper, puzzle and teaching packages of Debian, for validation only.

Which pictures of a package are photographs, and their captions, is kept in
``benchmarks/quality/sets/wallpapers.csv``: drawings, renderings and copies in other sizes are not
in that list. The pictures have free licences of many kinds and are therefore fetched, never
shipped.
"""

from __future__ import annotations

import csv
import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from starter_packages import FetchError, fetch_debian

EDGE_PX = 512
LISTED = Path(__file__).resolve().parents[1] / "benchmarks/quality/sets/wallpapers.csv"


def build_wallpapers(folder: Path, cache: Path) -> Path:
    """Write the photographs, at most ``EDGE_PX`` wide and high, under names that say nothing.

    Returns:
        Path of the manifest, whose columns are path, package, file (in the package), licence and
        author (as the package states them), and one caption a language: en, de, fr, es, ja, zh.

    Raises:
        FetchError: A package cannot be fetched, or its version lacks pictures of the list.
    """
    with LISTED.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    roots = {package: fetch_debian(package, cache) for package in {row["package"] for row in rows}}
    resources: dict[Path, dict[str, bytes]] = {}
    missing = []
    for row in rows:
        archive, _, member = row["file"].partition(":")
        source = roots[row["package"]] / archive
        if not source.is_file():
            missing.append(f"{row['package']}: {archive}")
            continue
        data = source.read_bytes()
        if member:
            if source not in resources:
                resources[source] = dict(read_qt_resources(data))
            data = resources[source][member]
        target = folder / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        _save_small(data, target)
    if missing:
        raise FetchError(
            f"{len(missing)} pictures are not in these versions of the packages, such as "
            f"{missing[0]}; the list was made for Debian 12."
        )
    manifest = folder / "manifest.csv"
    manifest.write_bytes(LISTED.read_bytes())
    return manifest


def _save_small(data: bytes, target: Path) -> None:
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (2 * EDGE_PX, 2 * EDGE_PX))
        rgba = picture.convert("RGBA")
    rgba.thumbnail((EDGE_PX, EDGE_PX), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    white.alpha_composite(rgba)
    white.convert("RGB").save(target, quality=88)


def read_qt_resources(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the files of a Qt resource file (.rcc).

    Files that are compressed with Zstandard are left out; pictures are not compressed.

    Raises:
        FetchError: The data is no resource file.
    """
    if data[:4] != b"qres":
        raise FetchError("A file of the package is no Qt resource file; the list needs Debian 12.")
    version, tree, contents, names = struct.unpack(">4I", data[4:20])
    node_bytes = 14 if version == 1 else 22

    def name(node: int) -> str:
        start = names + struct.unpack_from(">I", data, tree + node * node_bytes)[0]
        length = struct.unpack_from(">H", data, start)[0]
        return data[start + 6 : start + 6 + 2 * length].decode("utf-16-be")

    def walk(node: int, folder: str) -> Iterator[tuple[str, bytes]]:
        start = tree + node * node_bytes
        flags = struct.unpack_from(">H", data, start + 4)[0]
        if flags & 2:
            count, first = struct.unpack_from(">2I", data, start + 6)
            for child in range(first, first + count):
                yield from walk(child, f"{folder}/{name(child)}" if folder else name(child))
            return
        begin = contents + struct.unpack_from(">I", data, start + 10)[0]
        content = data[begin + 4 : begin + 4 + struct.unpack_from(">I", data, begin)[0]]
        if flags & 1:
            yield folder, zlib.decompress(content[4:])
        elif not flags & 4:
            yield folder, content

    yield from walk(0, "")
