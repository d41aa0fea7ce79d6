"""Captioned drawings that the starter's alignment is trained on.

Arrays derived from them may be shipped: Open Clip Art is in the public domain (files without that
statement are skipped), and Google's Noto emoji are Apache-2.0.
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
_EXCLUDED_EMOJI_CATEGORIES = frozenset({"Flags", "Symbols", "Component"})

_EXCLUDED_FOLDERS = re.compile(
    r"icons|shapes|buttons|flags|map_symbols|roadsign|cards|letters|special|geography"
    r"|signs_and_symbols"
)
_EXCLUDED_TITLES = re.compile(
    r"^(untitled|drawing|new document|no title|title|image|unknown|test)$"
)
_EXCLUDED_KEYWORDS = re.compile(
    r"^hash|^unsorted|clip ?art|^png$|^svg$|inkscape|openclip|^image$|\d{3}"
)
_PUBLIC_DOMAIN = re.compile(r"(?i)<(?:cc:)?license[^>]*rdf:resource=\"[^\"]*public_?domain")
MAX_PIXELS = 30_000_000
MIN_WIDTH_PX = 40


@dataclass(frozen=True)
class Drawing:
    """A captioned picture.

    Attributes:
        path: Path of the file.
        source: "openclipart" or "emoji".
        title: Caption; empty if only the keywords can be used.
        keywords: Further words, each of which may describe the picture.
        fold: Cross-validation fold, 0..4; pictures with the same title share a fold.
    """

    path: Path
    source: str
    title: str
    keywords: tuple[str, ...]
    fold: int


def normalize_text(text: str) -> str:
    """Return the words of a text in lower case, without punctuation and words with digits."""
    text = re.sub(r"[\W_]+", " ", text.lower())
    return " ".join(word for word in text.split() if not any(c.isdigit() for c in word))


def hash_fold(key: str) -> int:
    """Return the fold of a key, which depends only on the key."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 5


def read_emoji(package: Path, records: list[dict[str, object]]) -> list[Drawing]:
    """Return Google's emoji without flags and signs; ``records`` is the package's emoji.json."""
    drawings = []
    for record in records:
        if not record["has_img_google"] or record["category"] in _EXCLUDED_EMOJI_CATEGORIES:
            continue
        path = package / "img/google/64" / str(record["image"])
        title = normalize_text(str(record["name"] or record["short_name"]))
        short_names = record["short_names"]
        if not path.is_file() or not title or not isinstance(short_names, list):
            continue
        keywords = {normalize_text(str(name)) for name in short_names} - {title, ""}
        fold = hash_fold(str(record["unified"]))
        drawings.append(Drawing(path, "emoji", title, tuple(sorted(keywords)), fold))
    return drawings


def read_openclipart(png: Path, svg: Path) -> list[Drawing]:
    """Return Open Clip Art's drawings of things, captioned by the metadata of their SVG files.

    Many titles are mass-produced ("gramastar" occurs 1,375 times), so only unique titles are used.
    A drawing without a unique title keeps its keywords.
    """
    candidates: list[tuple[Path, str, tuple[str, ...]]] = []
    for path in sorted(png.rglob("*.png")):
        name = path.relative_to(png)
        source = svg / name.with_suffix(".svg")
        if path.is_symlink() or not source.is_file() or _EXCLUDED_FOLDERS.search(str(name.parent)):
            continue
        metadata = _metadata(source)
        if not _PUBLIC_DOMAIN.search(metadata):
            continue
        width, height = _image_size(path)
        if width >= MIN_WIDTH_PX and width * height <= MAX_PIXELS:
            candidates.append((path, *_caption(metadata)))
    titles = Counter(title for _, title, _ in candidates)
    drawings = []
    for path, title, keywords in candidates:
        usable_title = title if titles[title] == 1 and not _EXCLUDED_TITLES.match(title) else ""
        usable_title = usable_title if re.search("[a-z]{3}", usable_title) else ""
        if usable_title or keywords:
            fold = hash_fold(usable_title or path.name)
            drawings.append(Drawing(path, "openclipart", usable_title, keywords, fold))
    return drawings


def _image_size(path: Path) -> tuple[int, int]:
    """Return the width and height from the header; a size above MAX_PIXELS if Pillow refuses."""
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
    """Return title and keywords; the names of authors are removed from both."""
    agent_names = {
        normalize_text(_text(t))
        for t in re.findall(r"<cc:Agent.*?</cc:Agent>", metadata, re.DOTALL)
    }
    work_markup = re.sub(r"<cc:Agent.*?</cc:Agent>", "", metadata, flags=re.DOTALL)
    match = re.search(r"<dc:title[^>/]*>(.*?)</dc:title>", work_markup, re.DOTALL)
    title = normalize_text(_text(match.group(1))) if match else ""
    items = (
        _text(item) for item in re.findall(r"<rdf:li[^>/]*>(.*?)</rdf:li>", work_markup, re.DOTALL)
    )
    keywords = {
        normalize_text(item) for item in items if not _EXCLUDED_KEYWORDS.search(item.lower())
    }
    usable_keywords = {k for k in keywords if len(k) > 2 and k not in agent_names} - {title}
    return title, tuple(sorted(usable_keywords))


def _text(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", markup)).strip()
