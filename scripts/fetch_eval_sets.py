"""Build a captioned set of pictures: PNG or JPEG files and a manifest.csv.

The sets are the Tux Paint stamps on white (GPL-2) and, for validation only, the photographs of
Debian's wallpapers and teaching programs. They are fetched, never shipped. Only evaluation uses
them.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from eval_wallpapers import build_wallpapers
from PIL import Image
from starter_packages import FetchError, fetch_debian, require_program

PACKAGE = "tuxpaint-stamps-default"
SVG_EDGE_PX = 512

# Mirrored and flipped copies of other stamps.
_MIRRORED_COPY = re.compile(r"_(mirror|flip|mirror_flip)$")
# The first line of a stamp's text is English unless it already names a language: "de.utf8=...".
_LANGUAGE_LINE = re.compile(r"^([A-Za-z_@]+)(?:\.utf8)?=(.*)$")
LANGUAGES = ("de", "fr", "es", "ja", "zh_CN")
"""Languages besides English whose captions are kept."""


def read_captions(text_file: Path) -> dict[str, str]:
    """Return the captions of a stamp: English as ``caption``, others as ``caption_de`` etc."""
    captions_by_column = {"caption": ""} | {f"caption_{language}": "" for language in LANGUAGES}
    if not text_file.is_file():
        return captions_by_column
    text = text_file.read_text(encoding="utf-8", errors="replace").lstrip("\ufeff")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line_index, line in enumerate(lines):
        language_match = _LANGUAGE_LINE.match(line)
        if language_match is None:
            captions_by_column["caption"] = (
                line if line_index == 0 else captions_by_column["caption"]
            )
        elif language_match[1] in LANGUAGES:
            captions_by_column[f"caption_{language_match[1]}"] = language_match[2].strip()
    return captions_by_column


def open_stamp(path: Path) -> Image.Image:
    """Open a stamp as RGBA; SVG drawings are rendered at ``SVG_EDGE_PX``."""
    if path.suffix == ".svg":
        edge = str(SVG_EDGE_PX)
        command = ["rsvg-convert", "-w", edge, "-h", edge, "--keep-aspect-ratio", str(path)]
        rendered = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        return Image.open(io.BytesIO(rendered)).convert("RGBA")
    return Image.open(path).convert("RGBA")


def looks_photographic(stamp: Image.Image) -> bool:
    """Return True if a stamp is probably a cut-out photograph, judged by its texture.

    In a photograph neighbouring opaque pixels nearly always differ a little (sensor noise); in a
    drawing most are equal. The thresholds separate the two well, not perfectly.
    """
    small = stamp.copy()
    small.thumbnail((320, 320), Image.Resampling.LANCZOS)
    pixels = np.asarray(small).astype(np.int64)
    opaque = pixels[..., 3] > 250
    both_opaque = opaque[:, 1:] & opaque[:, :-1]
    if both_opaque.sum() < 200:
        return False
    differences = np.abs(np.diff(pixels[..., :3].mean(axis=2), axis=1))[both_opaque]
    colours = np.unique(pixels[..., :3][opaque] >> 3, axis=0)
    slight_share = ((differences >= 1) & (differences <= 24)).mean()
    return bool(slight_share > 0.55 and (differences < 0.5).mean() < 0.2 and len(colours) > 150)


def build_stamps(folder: Path, cache: Path) -> Path:
    """Write the set into ``folder``.

    Returns:
        Path of the manifest, whose columns are path, category, source (png or svg), photograph
        (0 or 1), caption, and caption_de etc.
    """
    require_program("rsvg-convert", "librsvg2-bin")
    stamps = fetch_debian(PACKAGE, cache) / "usr/share/tuxpaint/stamps"
    rows: list[dict[str, str]] = []
    for path in sorted(p for p in stamps.rglob("*") if p.suffix in {".png", ".svg"}):
        if _MIRRORED_COPY.search(path.stem):
            continue
        if path.suffix == ".png" and path.with_suffix(".svg").exists():
            continue
        stamp = open_stamp(path)
        name = Path("img") / path.relative_to(stamps).with_suffix(".png")
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        white = Image.new("RGBA", stamp.size, (255, 255, 255, 255))
        white.alpha_composite(stamp)
        white.convert("RGB").save(target)
        rows.append(
            {
                "path": name.as_posix(),
                "category": path.parent.relative_to(stamps).as_posix(),
                "source": path.suffix[1:],
                "photograph": str(int(path.suffix == ".png" and looks_photographic(stamp))),
                **read_captions(path.with_suffix(".txt")),
            }
        )
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return manifest


def main() -> int:
    """Fetch the packages, build the set, and print the path of the manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="output folder for the pictures and manifest.csv")
    parser.add_argument("--set", choices=["stamps", "wallpapers"], default="stamps")
    parser.add_argument("--cache", type=Path, help="folder for downloads (default: FOLDER/.cache)")
    arguments = parser.parse_args()
    try:
        build = {"stamps": build_stamps, "wallpapers": build_wallpapers}[arguments.set]
        manifest = build(arguments.folder, arguments.cache or arguments.folder / ".cache")
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    print(manifest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
