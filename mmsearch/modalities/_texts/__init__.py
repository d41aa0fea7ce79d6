"""Texts and metadata of a picture from outside its file: from sidecars and from its path."""

from __future__ import annotations

import os
from collections.abc import Iterable

from mmsearch.core.errors import DecodeError
from mmsearch.core.records import CollectedTexts, FailedFile, ScannedFile
from mmsearch.core.types import Metadata, Text, merge_metadata
from mmsearch.modalities._texts.pairing import is_named_after


def collect_texts(root: bytes, file: ScannedFile) -> CollectedTexts:
    """Return what the sidecars and the path of one file say about it.

    XMP sidecars replace what the picture file says. Google Takeout, and then the date in the file
    name, are used where the file says nothing. A sidecar that cannot be read is reported as a
    problem and skipped.

    Args:
        root: Absolute path of the file's root.
        file: The file, with its sidecars.
    """
    # A run that finds nothing changed reads no text.
    from mmsearch.modalities._texts.filenames import (  # noqa: PLC0415
        make_filename_texts,
        parse_filename_date,
    )
    from mmsearch.modalities._texts.sidecars import read_sidecar  # noqa: PLC0415

    texts: list[Text] = []
    problems: list[FailedFile] = []
    overrides: list[Metadata] = []
    fallbacks: list[Metadata] = []
    name = os.path.basename(file.path)  # noqa: PTH119 - bytes
    for sidecar in file.sidecars:
        path = os.path.join(root, sidecar.path)  # noqa: PTH118 - bytes paths need os
        try:
            content = read_sidecar(path)
        except DecodeError as error:
            problems.append(FailedFile(path, error.message))
            continue
        # Edited copies share the JSON of Takeout only.
        if content.is_takeout or is_named_after(os.path.basename(path), name):  # noqa: PTH119
            texts += content.metadata.texts
            (overrides if content.is_override else fallbacks).append(content.metadata)
            fallbacks.append(content.fallbacks)
    fallbacks.append(parse_filename_date(file.path))
    return CollectedTexts(
        (*texts, *make_filename_texts(file.path)),
        tuple(problems),
        _merge(overrides),
        _merge(fallbacks),
    )


def _merge(candidates: Iterable[Metadata]) -> Metadata:
    return Metadata(**merge_metadata(candidates))
