"""Texts of a picture from outside its file: sidecars, and the words of its path."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Container, Iterator
from typing import Any, Final

from mmsearch.core.errors import DecodeError
from mmsearch.core.files import open_source_file, os_error_reason
from mmsearch.core.records import CollectedTexts, FailedFile, ScannedFile
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.normalize import decode, make_keyword_texts, make_texts
from mmsearch.modalities._texts.xmp import parse_xmp

SIDECAR_SUFFIXES: Final = (b".caption", b".json", b".txt", b".xmp")
"""File name suffixes of sidecars."""

MAX_SIDECAR_BYTES: Final = 1_000_000
"""Maximum size of a sidecar, in bytes."""

# Kinds of text by field of a JSON object.
_TEXT_FIELDS: Final = {
    "caption": "caption",
    "captions": "caption",
    "text": "caption",
    "alt": "caption",
    "alt_text": "caption",
    "description": "description",
    "title": "title",
}
_KEYWORD_FIELDS: Final = ("keywords", "tags")
# Export programs often write the picture's file name as its title.
_FILE_NAME: Final = re.compile(r"\S+\.[A-Za-z0-9]{2,5}")
_KEYWORD_SEPARATOR: Final = re.compile("[,;]")

# Names that cameras, phones and programs generate.
_GENERATED_NAME: Final = re.compile(
    r"""(?ix)
      (?:img|imag|image|dsc|dscn|dscf|dsci|dsc_|pict?|pic|p|photo|mvi|mov|vid|gopr|gp|dji|sam|
         cimg|kimg|hpim|sdc|sl|imgp|img_e|pxl|mvimg|burst|fb_img|wp|screenshot|screen\ shot|
         bildschirmfoto|capture|scan|signal|whatsapp\ image|received|untitled|unnamed)
      # The alternatives are mutually exclusive, which avoids catastrophic backtracking.
      [\s_.-]*\d(?:[\s_.,()\d:~hmsp-]|at|am|wa|portrait|burst|cover|edit)*
    | [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}
    | (?=[a-f]*\d)[0-9a-f]{8,}
    | \d{3}_?[a-z]{4,5}_?      # 100CANON, 101MSDCF, 100_PANA
    | (?!(?:19|20)\d\d$)[\W\d_]*
    """
)
_GENERIC_FOLDERS: Final = frozenset(
    """
    photos photo pictures picture pics images image img imgs bilder fotos foto dcim camera export
    exports new untitled desktop downloads download documents home users mnt media data tmp misc
    other stuff originals raw jpg jpeg png files library albums album gallery
    """.split()  # noqa: SIM905 - easier to read than a list
) | {"new folder", "untitled folder", "camera roll", "my pictures", "neuer ordner"}

_CAMEL_CASE_BOUNDARY: Final = re.compile(
    r"(?<=[a-zß-öø-ÿ])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-Z])(?=[A-Z][a-z])"
)
_YEAR: Final = re.compile("19\\d\\d|20\\d\\d")


def collect_texts(root: bytes, file: ScannedFile) -> CollectedTexts:
    """Return the texts of one file: those of its sidecars, then the words of its path.

    A sidecar that cannot be read is reported as a problem and skipped.

    Args:
        root: Absolute path of the file's root.
        file: The file, with its sidecars.
    """
    texts: list[Text] = []
    problems: list[FailedFile] = []
    for sidecar in file.sidecars:
        path = os.path.join(root, sidecar.path)  # noqa: PTH118 - bytes paths need os
        try:
            texts += read_sidecar(path)
        except DecodeError as error:
            problems.append(FailedFile(path, error.message))
    return CollectedTexts((*texts, *make_filename_texts(file.path)), tuple(problems))


# --- sidecars: x.txt, x.caption, x.json, x.xmp ---


def find_sidecars(picture: bytes, folder_names: Container[bytes]) -> list[bytes]:
    """Return the names of a picture's sidecars.

    A sidecar is named like the picture, with or without the picture's own suffix, plus one of
    `SIDECAR_SUFFIXES`.

    Args:
        picture: File name of the picture.
        folder_names: Lower-cased names of the files in the same folder.

    Returns:
        The lower-cased names, sorted.
    """
    stem = os.path.splitext(picture)[0]  # noqa: PTH122 - bytes
    candidates = {(base + end).lower() for base in (picture, stem) for end in SIDECAR_SUFFIXES}
    return sorted(name for name in candidates if name in folder_names)


def read_sidecar(path: bytes) -> tuple[Text, ...]:
    """Return the texts of a sidecar, if it contains any.

    Raises:
        DecodeError: The sidecar cannot be read; the message is the reason.
    """
    try:
        with open_source_file(path) as file:
            content = file.read(MAX_SIDECAR_BYTES + 1)
    except OSError as error:
        raise DecodeError(os_error_reason(error)) from error
    if len(content) > MAX_SIDECAR_BYTES:
        raise DecodeError(f"it is larger than {MAX_SIDECAR_BYTES / 1e6:g} MB")
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - bytes
    if suffix == b".xmp":
        return parse_xmp(content, TextSource.SIDECAR).texts
    if suffix == b".json":
        return tuple(_parse_json(decode(content)))
    return make_texts("caption", decode(content), TextSource.SIDECAR)


def _parse_json(content: str) -> Iterator[Text]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DecodeError("it is not JSON") from error
    if not isinstance(value, dict):
        return
    words: list[str] = []
    for name, field_value in value.items():
        field = name.lower()
        texts = list(_iter_strings(field_value))
        if field in _TEXT_FIELDS:
            for text in texts:
                if field != "title" or not _FILE_NAME.fullmatch(text.strip()):
                    yield from make_texts(_TEXT_FIELDS[field], text, TextSource.SIDECAR)
        elif field in _KEYWORD_FIELDS:
            is_list = isinstance(field_value, list)
            words += (
                texts if is_list else [word for t in texts for word in _KEYWORD_SEPARATOR.split(t)]
            )
    yield from make_keyword_texts(words, TextSource.SIDECAR)


def _iter_strings(value: Any) -> Iterator[str]:
    """Yield the value if it is a string, or the strings of a list."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, str):
            yield item


# --- words of a path ---


def make_filename_texts(path: bytes) -> tuple[Text, ...]:
    """Return one text with the words of a path, or none if all names are generated or generic.

    Args:
        path: Path relative to its root, as bytes of the file system.
    """
    *folders, name = os.fsdecode(path).split("/")
    stem = os.path.splitext(name)[0]  # noqa: PTH122 - a name, not a file
    words: list[str] = []
    for part in (*folders, stem):
        normalized = unicodedata.normalize("NFC", part.encode("utf-8", "ignore").decode())
        generic = part is not stem and normalized.strip().lower() in _GENERIC_FOLDERS
        if not generic and not _GENERATED_NAME.fullmatch(normalized.strip()):
            words += _split_words(normalized)
    return make_texts("filename", " ".join(dict.fromkeys(words)), TextSource.FILENAME)


def _split_words(name: str) -> list[str]:
    """Split a name at separators, digits and capitals; the only numbers kept are years."""
    tokens = re.findall(r"[^\W\d_]+|\d+", _CAMEL_CASE_BOUNDARY.sub(" ", name))
    return [p for p in tokens if not p.isdigit() or _YEAR.fullmatch(p)]
