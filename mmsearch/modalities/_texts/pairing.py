"""Pair the pictures of a folder with their sidecars, by name.

A sidecar is named like its picture, with or without the picture's own suffix, plus one of
`SIDECAR_SUFFIXES`. Google Takeout and darktable use further forms:

- Takeout adds ``.supplemental-metadata`` before ``.json``, cuts the result at `_TAKEOUT_CHARS`, and
  writes the number of a duplicate at the end: ``a.jpg.supplemental-metadata(1).json`` belongs to
  ``a(1).jpg``. Edited copies such as ``a-edited.jpg`` have no JSON of their own.
- darktable names the XMP of the second version of ``a.jpg`` ``a_01.jpg.xmp``.
- Subtitles belong to films alone, and may have a language before their suffix: ``film.en.srt``.

A sidecar belongs to one picture, and edited copies share the JSON of their original.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Final

from mmsearch.core.globs import fold_path, normalize_path
from mmsearch.modalities._other_files import VIDEO, kind_by_name
from mmsearch.modalities._texts.subtitles import SUBTITLE_SUFFIXES, split_name

SIDECAR_SUFFIXES: Final = (b".caption", b".json", b".txt", b".xmp", *SUBTITLE_SUFFIXES)
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

_CUT_EDITED: Final = tuple(
    sorted({ending[:end] for ending in _EDITED for end in range(2, len(ending))})
)

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

# Kind of a name (whole name, stem, stem of a shot or cut name), the name, and the number of a
# duplicate or "".
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
    names = _KeyIndex(pictures, _picture_keys)
    films = _KeyIndex([name for name in pictures if is_film(name)], _picture_keys)
    claims = [
        ((films if is_subtitle(sidecar) else names).find(sidecar), sidecar) for sidecar in sidecars
    ]
    pairs: dict[bytes, list[bytes]] = defaultdict(list)
    kinds: set[tuple[bytes, bytes]] = set()
    for (_, candidates), sidecar in sorted((claim, name) for claim, name in claims if claim):
        kind = _suffix(sidecar)
        picture = min(candidates, key=lambda name: _preference(name, (name, kind) in kinds))
        pairs[picture].append(sidecar)
        kinds.add((picture, kind))
    originals = _KeyIndex([name for name in pictures if _is_edited_copy(name)], _original_keys)
    for sidecar in sorted(name for name in sidecars if _suffix(name) == b".json"):
        claim = originals.find(sidecar)
        for picture in claim[1] if claim else ():
            if (picture, b".json") not in kinds:
                pairs[picture].append(sidecar)
    return {picture: tuple(paired) for picture, paired in pairs.items()}


def is_subtitle(name: bytes) -> bool:
    """Return True if a file has the name of subtitles."""
    return _suffix(name) in SUBTITLE_SUFFIXES


def is_film(name: bytes) -> bool:
    """Return True if a file has the name of a film."""
    return kind_by_name(name) == VIDEO


def is_named_after(sidecar: bytes, picture: bytes) -> bool:
    """Return False if a paired sidecar is that of the original of an edited copy."""
    stem = os.path.splitext(fold_path(picture))[0]  # noqa: PTH122 - a name, not a file
    return not _is_edited_copy(picture) or fold_path(sidecar).startswith(stem)


def _is_edited_copy(picture: bytes) -> bool:
    stem = os.path.splitext(os.fsdecode(picture))[0]  # noqa: PTH122 - a name, not a file
    return any(_iter_original_stems(stem))


def _preference(picture: bytes, has_sidecar: bool) -> tuple[bool, bool, bytes]:
    return has_sidecar, _suffix(picture) not in _PREFERRED_SUFFIXES, picture


def _suffix(name: bytes) -> bytes:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - bytes


class _KeyIndex:
    """Pictures by their keys at each of `_LEVELS`; the later levels are rarely needed."""

    def __init__(self, pictures: Collection[bytes], keys: Callable[[str], Iterator[_Key]]) -> None:
        self._pictures = pictures
        self._keys = keys
        self._levels: list[dict[_Key, list[bytes]]] = []

    def find(self, sidecar: bytes) -> tuple[tuple[int, int], list[bytes]] | None:
        """Return the rank of the closest match and the pictures that match so, or None."""
        if not self._pictures:
            return None
        for level, normalize in enumerate(_LEVELS):
            if level == len(self._levels):
                self._levels.append(self._index(normalize))
            for position, key in enumerate(_sidecar_keys(normalize(sidecar))):
                if key in self._levels[level]:
                    return (level, position), self._levels[level][key]
        return None

    def _index(self, normalize: Callable[[bytes], str]) -> dict[_Key, list[bytes]]:
        index: dict[_Key, list[bytes]] = {}
        for picture in self._pictures:
            for key in dict.fromkeys(self._keys(normalize(picture))):
                index.setdefault(key, []).append(picture)
        return index


# --- keys of pictures ---


def _picture_keys(name: str) -> Iterator[_Key]:
    yield "stem", os.path.splitext(name)[0], ""  # noqa: PTH122 - a name, not a file
    yield from _name_keys(name)


def _original_keys(name: str) -> Iterator[_Key]:
    """Yield the keys of the original of an edited copy; none for other pictures."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a file
    numbered = _NUMBERED.fullmatch(stem)
    end = f"({numbered[2]})" if numbered else ""
    for original in _iter_original_stems(stem):
        yield from _name_keys(original + end + suffix)


def _iter_original_stems(stem: str) -> Iterator[str]:
    """Yield the stems that the original of an edited copy may have, without the final number."""
    if match := _NUMBERED.fullmatch(stem):
        stem = match[1]
    endings = _EDITED if _length(stem) != _TAKEOUT_STEM_CHARS else (*_EDITED, *_CUT_EDITED)
    stem = normalize_path(stem)
    folded = fold_path(stem)
    if folded.endswith(endings):
        yield from (
            stem[: -len(end)] for end in endings if folded.endswith(end) and len(stem) > len(end)
        )


def _name_keys(name: str) -> Iterator[_Key]:
    """Yield the keys of a whole name, as it is and with the number of a duplicate apart."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a file
    names = [(stem, "")]
    if match := _NUMBERED.fullmatch(stem):
        names.append((match[1], match[2]))
    for core, number in names:
        yield "name", core + suffix, number
        yield "shot", core, number
        if _length(core + suffix) > _TAKEOUT_CHARS:
            units = (core + suffix).encode("utf-16-le", "surrogatepass")[: 2 * _TAKEOUT_CHARS]
            yield "cut", units.decode("utf-16-le", "ignore"), number


def _length(name: str) -> int:
    """Return the length in UTF-16 units."""
    return len(name) if name.isascii() else len(name.encode("utf-16-le", "surrogatepass")) // 2


# --- keys of sidecars ---


def _sidecar_keys(name: str) -> Iterator[_Key]:
    """Yield the keys of the pictures that a sidecar may belong to, the closest names first."""
    base, suffix = os.path.splitext(name)  # noqa: PTH122 - a name, not a file
    suffix = suffix.lower()
    yield "name", base, ""
    if not (suffix == ".json" and _ALBUM.fullmatch(base.lower())):
        yield "stem", base, ""
    keys = [("name", base, "")]
    if suffix == ".json":
        keys += _takeout_keys(base)
    elif suffix == ".xmp" and _DARKTABLE_VERSION.search(base):
        keys.append(("name", _DARKTABLE_VERSION.sub("", base), ""))
    yield from keys[1:]
    if is_subtitle(os.fsencode(name)) and (stem := split_name(base)[0]) != base:
        yield "name", stem, ""
        yield "stem", stem, ""
    if suffix in (".xmp", ".json"):
        for _, picture, number in keys:
            shot, camera_suffix = os.path.splitext(picture)  # noqa: PTH122 - a name, not a file
            if camera_suffix.lower() in _CAMERA_SUFFIXES:
                yield "shot", shot, number


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
