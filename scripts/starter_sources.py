"""The captioned drawings that the starter's alignment is learned from.

Arrays derived from them may ship: Open Clip Art is in the public domain (files without that
statement are left out), Google's Noto emoji are Apache-2.0.
"""

from __future__ import annotations

import hashlib
import html
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

EMOJI_PACKAGE = "emoji-datasource-google"
EMOJI_VERSION = "16.0.0"
_EMOJI_LEFT_OUT = frozenset({"Flags", "Symbols", "Component"})

_FOLDER_LEFT_OUT = re.compile(
    r"icons|shapes|buttons|flags|map_symbols|roadsign|cards|letters|special|geography"
    r"|signs_and_symbols"
)
_TITLE_LEFT_OUT = re.compile(r"^(untitled|drawing|new document|no title|title|image|unknown|test)$")
_KEYWORD_LEFT_OUT = re.compile(
    r"^hash|^unsorted|clip ?art|^png$|^svg$|inkscape|openclip|^image$|\d{3}"
)
_PUBLIC_DOMAIN = re.compile(r"(?i)<(?:cc:)?license[^>]*rdf:resource=\"[^\"]*public_?domain")
MAX_PIXELS = 30_000_000
MIN_WIDTH_PX = 40


@dataclass(frozen=True)
class Drawing:
    """A captioned picture.

    Attributes:
        path: Where it lies.
        source: "openclipart" or "emoji".
        title: Its caption; empty when only the keywords can be used.
        keywords: Further words, any of which may describe it.
        fold: 0..4, the same for pictures that share a title.
    """

    path: Path
    source: str
    title: str
    keywords: tuple[str, ...]
    fold: int


def plain(text: str) -> str:
    """Lower case, letters only, single spaces, without numbers and numbered names."""
    text = re.sub(r"[\W_]+", " ", text.lower())
    return " ".join(word for word in text.split() if not any(c.isdigit() for c in word))


def fold_of(key: str) -> int:
    """A fold that depends on the key alone."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5


def read_emoji(package: Path, records: list[dict[str, object]]) -> list[Drawing]:
    """Google's emoji without flags and signs; `records` is the package's emoji.json."""
    drawings = []
    for record in records:
        if not record["has_img_google"] or record["category"] in _EMOJI_LEFT_OUT:
            continue
        path = package / "img/google/64" / str(record["image"])
        title = plain(str(record["name"] or record["short_name"]))
        short_names = record["short_names"]
        if not path.is_file() or not title or not isinstance(short_names, list):
            continue
        keywords = {plain(str(name)) for name in short_names} - {title, ""}
        fold = fold_of(str(record["unified"]))
        drawings.append(Drawing(path, "emoji", title, tuple(sorted(keywords)), fold))
    return drawings


def read_openclipart(png: Path, svg: Path) -> list[Drawing]:
    """Open Clip Art's drawings of things, captioned by the metadata of their SVG files.

    Titles were often mass-produced ("gramastar" 1,375 times), so a title counts only when no other
    drawing has it; a drawing without one stays with its keywords.
    """
    found: list[tuple[Path, str, tuple[str, ...]]] = []
    for path in sorted(png.rglob("*.png")):
        name = path.relative_to(png)
        source = svg / name.with_suffix(".svg")
        if path.is_symlink() or not source.is_file() or _FOLDER_LEFT_OUT.search(str(name.parent)):
            continue
        metadata = _metadata(source)
        if not _PUBLIC_DOMAIN.search(metadata):
            continue
        width, height = _size(path)
        if width >= MIN_WIDTH_PX and width * height <= MAX_PIXELS:
            found.append((path, *_caption(metadata)))
    titles = Counter(title for _, title, _ in found)
    drawings = []
    for path, title, keywords in found:
        kept = title if titles[title] == 1 and not _TITLE_LEFT_OUT.match(title) else ""
        kept = kept if re.search("[a-z]{3}", kept) else ""
        if kept or keywords:
            fold = fold_of(kept or path.name)
            drawings.append(Drawing(path, "openclipart", kept, keywords, fold))
    return drawings


def _size(path: Path) -> tuple[int, int]:
    """Width and height, from the header; Pillow need not stop at a big one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as picture:
                return picture.size
        except Image.DecompressionBombError:
            return MAX_PIXELS, MAX_PIXELS


def _metadata(svg: Path) -> str:
    text = svg.read_bytes().decode("utf-8", errors="replace")
    match = re.search(r"<(?:\w+:)?metadata\b.*?</(?:\w+:)?metadata>", text, re.DOTALL)
    return match.group(0) if match else ""


def _caption(metadata: str) -> tuple[str, tuple[str, ...]]:
    """Title and keywords; people's names are left out of both."""
    people = {plain(_text(t)) for t in re.findall(r"<cc:Agent.*?</cc:Agent>", metadata, re.DOTALL)}
    work = re.sub(r"<cc:Agent.*?</cc:Agent>", "", metadata, flags=re.DOTALL)
    match = re.search(r"<dc:title[^>/]*>(.*?)</dc:title>", work, re.DOTALL)
    title = plain(_text(match.group(1))) if match else ""
    items = (_text(item) for item in re.findall(r"<rdf:li[^>/]*>(.*?)</rdf:li>", work, re.DOTALL))
    keywords = {plain(item) for item in items if not _KEYWORD_LEFT_OUT.search(item.lower())}
    kept = {k for k in keywords if len(k) > 2 and k not in people} - {title}
    return title, tuple(sorted(kept))


def _text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", markup)).strip()
