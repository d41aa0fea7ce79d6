"""Texts of a picture from outside its file: sidecars, and the words of its path."""

from __future__ import annotations

import os

from mmsearch.core.errors import DecodeError
from mmsearch.core.records import CollectedTexts, FailedFile, ScannedFile
from mmsearch.core.types import Text
from mmsearch.modalities._texts.filenames import make_filename_texts
from mmsearch.modalities._texts.sidecars import read_sidecar


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
