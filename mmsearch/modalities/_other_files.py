"""Files of a folder that are not pictures of their own: what they are, and whose they are."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Final

from mmsearch.core.reports import LINKS, NO_ENDING, OF_ANOTHER_FILE, SkippedCount

VIDEO: Final = "video"
AUDIO: Final = "audio"
PROXY: Final = "small copy of a video"
NOT_A_PICTURE: Final = "not a picture"
UNSUPPORTED_PICTURE: Final = "kind of picture that is not supported"
WITHOUT_PAGES: Final = "no pages; save it as PDF"
EMPTY: Final = "empty file"
HIDDEN: Final = "hidden"
EXCLUDED: Final = "excluded"
LINK: Final = "link that is not followed (add --follow-symlinks)"
BROKEN_LINK: Final = "link to nothing"
UNFINISHED: Final = "unfinished download"
SYSTEM_FILE: Final = "file of the system"
HIDDEN_FOLDER: Final = "hidden folder"
SYSTEM_FOLDER: Final = "folder of the system"
EXCLUDED_FOLDER: Final = "excluded folder"
INDEX_FOLDER: Final = "folder of an index"
UNREADABLE: Final = "cannot be opened"

_RAW: Final = (
    "3fr arq arw cr2 cr3 crw dcr dng erf fff gpr iiq k25 kdc mdc mef mos mrw nef nrw orf pef raf"
    " raw rw2 rwl sr2 srf srw x3f"
)
_SUFFIXES: Final = {
    VIDEO: "3g2 3gp asf avi divx dv f4v flv insv m2t m2ts m2v m4v mkv mod mov mp mp4 mpe mpeg"
    " mpg mts mxf ogv qt rm rmvb tod vob webm wmv",
    PROXY: "lrv",
    AUDIO: "aac aif aifc aiff amr ape caf flac m4a m4b m4r mid midi mka mp3 oga ogg opus spx w64"
    " wav wave weba wma",
    WITHOUT_PAGES: "doc key odg pages ppt rtf",
    "document": "csv epub htm html json jsonl log md numbers ods parquet pdf tex tsv txt url webloc"
    " xls xlsx xml yaml yml",
    "archive": "7z bz2 cab dmg gz iso rar tar tgz xz zip zst",
    UNSUPPORTED_PICTURE: f"{_RAW} ai cdr dcm dds djvu emf eps exr fits hdr icns ico j2c j2k jp2 jpf"
    " jpx jxl jxr kra pbm pcx pgm pict pnm ppm psb psd sgi svg svgz tga wdp wmf xcf",
    "sidecar without a picture": "aae caption xmp",
    UNFINISHED: "aria2 crdownload download opdownload part partial",
}
_KIND_BY_SUFFIX: Final = {
    f".{suffix}": kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()
}
_LASTING: Final = frozenset({"", NOT_A_PICTURE, *_SUFFIXES})
_SYSTEM_FILES: Final = frozenset({"desktop.ini", "ehthumbs.db", "picasa.ini", "thumbs.db"})
_KIND_BY_HEAD: Final = (
    (re.compile(rb"....ftypM4[AB]", re.DOTALL), "audio"),
    (re.compile(rb"....(?:ftyp|moov|mdat)", re.DOTALL), VIDEO),
    (re.compile(rb"\x1aE\xdf\xa3|RIFF....AVI |FLV\x01|\0\0\x01[\xb3\xba]", re.DOTALL), VIDEO),
    (re.compile(rb"ID3|fLaC|OggS|#!AMR|MThd|RIFF....WAVE", re.DOTALL), "audio"),
    (re.compile(rb"%PDF|\{\\rtf"), "document"),
    (
        re.compile(rb"PK\x03\x04|Rar!\x1a|7z\xbc\xaf|\x1f\x8b\x08|BZh|\xfd7zXZ|\x28\xb5/\xfd"),
        "archive",
    ),
    (re.compile(rb"8BPS|%!PS|\0\0\0\x0cjP  |gimp xcf|\x76\x2f\x31\x01|DDS "), UNSUPPORTED_PICTURE),
)

# Files of one shot that are pictures: what is not a photograph never has a video or a RAW file.
_NOT_PHOTOGRAPHS: Final = frozenset(
    {".apng", ".bmp", ".gif", ".pdf", ".png", ".svg", ".tif", ".tiff", ".webp"}
)
_TIMED: Final = (VIDEO, AUDIO)
_RAW_SUFFIXES: Final = frozenset(f".{suffix}" for suffix in _RAW.split())
_LIVE_VIDEO_SUFFIXES: Final = frozenset({".m4v", ".mov", ".mp", ".mp4"})
_INNER_SUFFIX: Final = re.compile(
    r"(?<=.)(?:\.(?:jpe?g|jpe|hei[cf]|hif|avif|jxl|dng|mp)|\.raw-\d\d(?:\.mp)?\.(?:cover|original))\Z"
)
_IOS_ORIGINAL: Final = re.compile(r"\Aimg_o(?=\d)")
_BACKUP_SUFFIXES: Final = (b"_original", b"~")
_CHOSEN: Final = frozenset({HIDDEN, EXCLUDED, LINK, HIDDEN_FOLDER, SYSTEM_FOLDER, EXCLUDED_FOLDER})
_KIND_BY_REASON: Final = {
    HIDDEN: "hidden files",
    EXCLUDED: "excluded files",
    LINK: LINKS,
    BROKEN_LINK: "links to nothing",
    EMPTY: "empty files",
    SYSTEM_FILE: "system files",
    HIDDEN_FOLDER: "hidden folders",
    SYSTEM_FOLDER: "system folders",
    EXCLUDED_FOLDER: "excluded folders",
    INDEX_FOLDER: "folders of indexes",
}
_COMPANION: Final = re.compile(r"(RAW|video|edits|thumbnail|backup|text) of .*", re.DOTALL)


def lower_suffix(name: bytes) -> str:
    """Return the suffix of a file name in lower case, with its dot."""
    return os.fsdecode(os.path.splitext(name)[1]).lower()  # noqa: PTH122 - bytes


def is_raw(name: bytes) -> bool:
    """Return True if a file has the name of a RAW file."""
    return lower_suffix(name) in _RAW_SUFFIXES


def kind_by_name(name: bytes) -> str | None:
    """Return the kind of a file by its name: a reason not to read it; None if it is unknown."""
    if os.fsdecode(name).lower() in _SYSTEM_FILES:
        return SYSTEM_FILE
    return _KIND_BY_SUFFIX.get(lower_suffix(name))


def kind_by_head(head: bytes) -> str:
    """Return the kind of a file that is no picture by its first bytes."""
    return next((kind for pattern, kind in _KIND_BY_HEAD if pattern.match(head)), NOT_A_PICTURE)


def missing_extra_reason(extra: str) -> str:
    """Return the reason of a file that cannot be read without an extra."""
    return f"install '.[{extra}]'"


def is_lasting(reason: str) -> bool:
    """Return True if a reason comes from the content of a file, which has been looked at."""
    return reason in _LASTING or reason.startswith("text of ")


def replaces_picture(reason: str) -> bool:
    """Return True if a file that is skipped for a reason is certainly no picture of its own."""
    return reason == EMPTY or is_lasting(reason) or _COMPANION.fullmatch(reason) is not None


def is_left_out(reason: str) -> bool:
    """Return True if a file or folder is skipped because of the choices of its folder."""
    return reason in _CHOSEN


def count_skipped(paths_and_reasons: Iterable[tuple[bytes, str]]) -> tuple[SkippedCount, ...]:
    """Return the number of files by kind and reason, most frequent first."""
    counts_by_suffix = Counter(
        (path[path.rfind(b".") :], reason) for path, reason in paths_and_reasons
    )
    counts: Counter[tuple[str, str]] = Counter()
    for (suffix, reason), count in counts_by_suffix.items():
        generic_reason = _COMPANION.sub(rf"\1 {OF_ANOTHER_FILE}", reason)
        kind = _KIND_BY_REASON.get(reason)
        if kind is None:
            is_suffix = suffix.startswith(b".") and b"/" not in suffix
            kind = os.fsdecode(suffix[1:]).upper() if is_suffix else NO_ENDING
        counts[kind, generic_reason] += count
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(SkippedCount(kind, reason, count) for (kind, reason), count in ordered)


def shot_key(name: bytes) -> str:
    """Return what the names of all files of one shot have in common.

    ``IMG_1.CR2``, ``img_1.jpg``, ``IMG_1.JPG.dng``, and ``PXL_1.MP.jpg`` and ``PXL_1.MP``.
    """
    stem = os.fsdecode(os.path.splitext(name)[0])  # noqa: PTH122 - bytes
    key = unicodedata.normalize("NFC", stem).casefold()
    while (shorter := _INNER_SUFFIX.sub("", key)) != key:
        key = shorter
    return key


class Shots:
    """The photographs of a folder by shot, to find out what belongs to them.

    Args:
        names: Names of the pictures of the folder, sorted.
    """

    def __init__(self, names: Sequence[bytes]) -> None:
        self._names = names

    @cached_property
    def _photos(self) -> dict[str, bytes]:
        """JPEG, HEIF and similar pictures by shot."""
        return self._by_shot(is_raw_wanted=False)

    @cached_property
    def _raw_files(self) -> dict[str, bytes]:
        return self._by_shot(is_raw_wanted=True)

    def _by_shot(self, *, is_raw_wanted: bool) -> dict[str, bytes]:
        names_by_shot: dict[str, bytes] = {}
        for name in self._names:
            is_photo = (
                lower_suffix(name) not in _NOT_PHOTOGRAPHS and kind_by_name(name) not in _TIMED
            )
            if is_photo and is_raw(name) is is_raw_wanted:
                names_by_shot.setdefault(shot_key(name), name)
        return names_by_shot

    def photo_of_raw(self, name: bytes) -> bytes | None:
        """Return the JPEG or HEIF picture of the same shot as a RAW file."""
        return self._photos.get(shot_key(name))

    def companion_reason(
        self, name: bytes, kind: str | None, exact_names: Mapping[bytes, int]
    ) -> str | None:
        """Return whose file another file is, as a reason not to read it.

        Args:
            name: Name of a file that is no picture by its name.
            kind: Its kind, see `kind_by_name`.
            exact_names: All names of the folder.
        """
        suffix = lower_suffix(name)
        for backup_suffix in _BACKUP_SUFFIXES:
            if name.removesuffix(backup_suffix) in exact_names and name.endswith(backup_suffix):
                return _reason("backup", name.removesuffix(backup_suffix))
        if kind != VIDEO and suffix not in (".aae", ".thm"):
            return None
        key = shot_key(name)
        photo = self._photos.get(key) or self._raw_files.get(key)
        if photo and (suffix in _LIVE_VIDEO_SUFFIXES or not suffix):
            return _reason("video", photo)
        if suffix == ".aae":
            photo = photo or self._photos.get(_IOS_ORIGINAL.sub("img_", key))
            return _reason("edits", photo) if photo else None
        if suffix == ".thm":
            base = os.path.splitext(name)[0] + b"."  # noqa: PTH122 - bytes
            owner = next((n for n in exact_names if n.startswith(base) and n != name), photo)
            return _reason("thumbnail", owner) if owner else None
        return None


def raw_reason(photo: bytes) -> str:
    """Return the reason of a RAW file that belongs to a photograph."""
    return _reason("RAW", photo)


def text_of(owner: bytes) -> str:
    """Return the reason of a text that belongs to a file that is not read."""
    return _reason("text", owner)


def _reason(what: str, owner: bytes) -> str:
    return f"{what} of {os.fsdecode(owner).encode('utf-8', 'replace').decode()}"
