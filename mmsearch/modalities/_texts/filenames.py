"""Words of the path of a picture."""

from __future__ import annotations

import os
import re
from typing import Final

from mmsearch.core.globs import normalize_path
from mmsearch.core.types import Text, TextSource
from mmsearch.modalities._texts.normalize import make_texts

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


def make_filename_texts(path: bytes) -> tuple[Text, ...]:
    """Return one text with the words of a path, or none if all names are generated or generic.

    Args:
        path: Path relative to its root, as bytes of the file system.
    """
    *folders, name = os.fsdecode(path).split("/")
    stem = os.path.splitext(name)[0]  # noqa: PTH122 - a name, not a file
    words: list[str] = []
    for part in (*folders, stem):
        normalized = normalize_path(part.encode("utf-8", "ignore").decode())
        generic = part is not stem and normalized.strip().lower() in _GENERIC_FOLDERS
        if not generic and not _GENERATED_NAME.fullmatch(normalized.strip()):
            words += _split_words(normalized)
    return make_texts("filename", " ".join(dict.fromkeys(words)), TextSource.FILENAME)


def _split_words(name: str) -> list[str]:
    """Split a name at separators, digits and capitals; the only numbers kept are years."""
    tokens = re.findall(r"[^\W\d_]+|\d+", _CAMEL_CASE_BOUNDARY.sub(" ", name))
    return [p for p in tokens if not p.isdigit() or _YEAR.fullmatch(p)]
