"""Pair the pictures of a folder with their sidecars, by name.

A sidecar is named like its picture, with or without the picture's own suffix, plus one of
`SIDECAR_SUFFIXES`. Google Takeout and darktable use further forms:

- Takeout adds ``.supplemental-metadata`` before ``.json``, cuts the result at `_TAKEOUT_CHARS`, and
  writes the number of a duplicate at the end: ``a.jpg.supplemental-metadata(1).json`` belongs to
  ``a(1).jpg``. Edited copies such as ``a-edited.jpg`` have no JSON of their own.
- darktable names the XMP of the second version of ``a.jpg`` ``a_01.jpg.xmp``.

A sidecar belongs to one picture, and edited copies share the JSON of their original.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Final

from mmsearch.core.globs import fold_path, normalize_path

SIDECAR_SUFFIXES: Final = (b".caption", b".json", b".txt", b".xmp")
"""File name suffixes of sidecars."""

_TAKEOUT_CHARS: Final = 46
"""Length at which Takeout cuts the name of a JSON file, in UTF-16 units without ``.json``."""

_TAKEOUT_STEM_CHARS: Final = 47
"""Length at which Takeout cuts the name of a picture, without its suffix."""

_TAKEOUT_MARKER: Final = "supplemental-metadata"
_NUMBERED: Final = re.compile(r"(.+)\((\d{1,4})\)", re.DOTALL)
_ALBUM: Final = re.compile(
    r"(metadata|metadaten|metadatos|metadati|metadados|metadane|métadonnées|metagegevens)(\(\d+\))?"
)
_DARKTABLE_VERSION: Final = re.compile(r"_\d\d(?=\.[^.]+$)")
_EDITED: Final = tuple(
    "-" + word
    for word in (
        *("edited", "effects", "bearbeitet", "modifié", "modifie", "editado", "ha editado"),
        *("editada", "editat", "modificato", "modificata", "edytowane", "bewerkt", "redigerad"),
        *("redigeret", "redigert", "muokattu", "upraveno", "upravené", "szerkesztett", "editata"),
        *("düzenlendi", "изменено", "编辑", "已修改", "已編輯", "編集済み", "수정됨"),
    )
)
"""Endings of the names of edited copies in Takeout, by the language of the account."""

_CAMERA_SUFFIXES: Final = frozenset(
    (
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".heic", ".heif", ".iiq"),
        *(".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2"),
        *(".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    )
)
"""Suffixes of camera files, whose sidecars belong to the JPEG of the same shot if they are gone."""

_PREFERRED_SUFFIXES: Final = (b".jpg", b".jpeg", b".heic")

_LEVELS: Final[tuple[Callable[[bytes], str], ...]] = (os.fsdecode, normalize_path, fold_path)
"""Forms in which names are compared, the strictest first."""

# Kind of a name (whole name, stem or cut name), the name, and the number of a duplicate or "".
_Key = tuple[str, str, str]


def pair_sidecars(
    pictures: Collection[bytes], sidecars: Collection[bytes]
) -> dict[bytes, tuple[bytes, ...]]:
    """Return the sidecars of each picture of one folder, those with the closest names first.

    Names that are equal byte by byte come first, then names that are equal as Unicode text (NFC),
    then names that differ in case only. If a sidecar fits several pictures equally well, such as
    ``a.txt`` beside ``a.jpg`` and ``a.png``, it belongs to one without a sidecar of that kind, a
    JPEG or HEIC file first, then by name.

    Args:
        pictures: Names of the pictures.
        sidecars: Names that end with one of `SIDECAR_SUFFIXES`.

    Returns:
        The names of sidecars by picture, without pictures that have none.
    """
    if not pictures or not sidecars:
        return {}
    names = _index_keys(pictures, _picture_keys)
    originals = _index_keys(pictures, _original_keys)
    claims = [(_find_closest(sidecar, names), sidecar) for sidecar in sidecars]
    pairs: dict[bytes, list[bytes]] = defaultdict(list)
    kinds: set[tuple[bytes, bytes]] = set()
    for (_, candidates), sidecar in sorted((claim, name) for claim, name in claims if claim):
        kind = _suffix(sidecar)
        picture = min(candidates, key=lambda name: _preference(name, (name, kind) in kinds))
        pairs[picture].append(sidecar)
        kinds.add((picture, kind))
    for sidecar in sorted(name for name in sidecars if _suffix(name) == b".json"):
        claim = _find_closest(sidecar, originals)
        for picture in claim[1] if claim else ():
            if (picture, b".json") not in kinds:
                pairs[picture].append(sidecar)
    return {picture: tuple(paired) for picture, paired in pairs.items()}


def is_named_after(sidecar: bytes, picture: bytes) -> bool:
    """Return False if a paired sidecar is that of the original of an edited copy."""
    stem = os.path.splitext(_LEVELS[-1](picture))[0]  # noqa: PTH122 - a name, not a file
    return not any(_iter_original_stems(stem)) or _LEVELS[-1](sidecar).startswith(stem)


def _preference(picture: bytes, has_sidecar: bool) -> tuple[bool, bool, bytes]:
    return has_sidecar, _suffix(picture) not in _PREFERRED_SUFFIXES, picture


def _suffix(name: bytes) -> bytes:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - bytes


def _index_keys(
    pictures: Collection[bytes], keys: Callable[[str], Iterator[_Key]]
) -> list[dict[_Key, list[bytes]]]:
    """Return, for each of `_LEVELS`, the pictures by key."""
    indexes = []
    for normalize in _LEVELS:
        index: dict[_Key, list[bytes]] = defaultdict(list)
        for picture in pictures:
            for key in dict.fromkeys(keys(normalize(picture))):
                index[key].append(picture)
        indexes.append(dict(index))
    return indexes


def _find_closest(
    sidecar: bytes, indexes: list[dict[_Key, list[bytes]]]
) -> tuple[tuple[int, int], list[bytes]] | None:
    """Return the rank of the closest match and the pictures that match so; None without any."""
    for level, (normalize, index) in enumerate(zip(_LEVELS, indexes, strict=True)):
        for position, key in enumerate(_sidecar_keys(normalize(sidecar))):
            if key in index:
                return (level, position), index[key]
    return None


# --- keys of pictures ---


def _picture_keys(name: str) -> Iterator[_Key]:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a file
    yield "stem", stem, ""
    yield from _name_keys(name, "")
    if match := _NUMBERED.fullmatch(stem):
        yield from _name_keys(match[1] + suffix, match[2])


def _original_keys(name: str) -> Iterator[_Key]:
    """Yield the keys of the original of an edited copy; none for other pictures."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a file
    number = ""
    if match := _NUMBERED.fullmatch(stem):
        stem, number = match[1], match[2]
    for original in _iter_original_stems(stem):
        yield from _name_keys(original + suffix, number)
        if number:
            yield from _name_keys(f"{original}({number}){suffix}", "")


def _iter_original_stems(stem: str) -> Iterator[str]:
    if match := _NUMBERED.fullmatch(stem):
        stem = match[1]
    folded = fold_path(stem)
    for ending in _EDITED:
        if folded.endswith(ending) and len(stem) > len(ending):
            yield stem[: -len(ending)]
    if _length(stem) == _TAKEOUT_STEM_CHARS:
        cut_endings = {ending[:end] for ending in _EDITED for end in range(2, len(ending))}
        yield from (stem[: -len(cut)] for cut in cut_endings if folded.endswith(cut))


def _name_keys(name: str, number: str) -> Iterator[_Key]:
    yield "name", name, number
    if _length(name) > _TAKEOUT_CHARS:
        units = name.encode("utf-16-le", "surrogatepass")[: 2 * _TAKEOUT_CHARS]
        yield "cut", units.decode("utf-16-le", "ignore"), number


def _length(name: str) -> int:
    """Return the length in UTF-16 units."""
    return len(name.encode("utf-16-le", "surrogatepass")) // 2


# --- keys of sidecars ---


def _sidecar_keys(name: str) -> Iterator[_Key]:
    """Yield the keys of the pictures that a sidecar may belong to, the closest names first."""
    base, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a file
    yield "name", base, ""
    suffix = suffix.lower()
    is_json = suffix == ".json"
    if not (is_json and _ALBUM.fullmatch(base.lower())):
        yield "stem", base, ""
    if is_json:
        yield from _takeout_keys(base)
    if suffix == ".xmp" and _DARKTABLE_VERSION.search(base):
        yield "name", _DARKTABLE_VERSION.sub("", base), ""
    shot, camera_suffix = os.path.splitext(base)  # noqa: PTH122 - a name, not a file
    if suffix in (".xmp", ".json") and camera_suffix.lower() in _CAMERA_SUFFIXES:
        yield "stem", shot, ""


def _takeout_keys(base: str) -> Iterator[_Key]:
    numbered = _NUMBERED.fullmatch(base)
    for core, number in ((base, ""), *([(numbered[1], numbered[2])] if numbered else [])):
        if number:
            yield "name", core, number
        picture, dot, marker = core.rpartition(".")
        if dot and picture and _TAKEOUT_MARKER.startswith(marker.lower()):
            yield "name", picture, number
        # A character that the cut would split is missing.
        if _length(core) in (_TAKEOUT_CHARS - 1, _TAKEOUT_CHARS):
            yield "cut", core, number
