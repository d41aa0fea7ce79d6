"""Source ``archive``: pictures in zip and tar files, also in samples of webdataset."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from mmsearch.core.display import display_path
from mmsearch.core.errors import SourceError
from mmsearch.core.files import open_regular_file, os_error_reason
from mmsearch.sources._archives import ArchiveFile, ArchiveSource
from mmsearch.sources._keys import relative_names
from mmsearch.sources._local import absolute_path, expand_paths, file_stamp
from mmsearch.sources._shards import find_table, is_shards_folder, list_shards, stamp_with_table


def build(
    uri: bytes, *, is_picture: Callable[[bytes, bytes], bool], hidden: bool = False
) -> ArchiveSource:
    """Build a source of local archives.

    Args:
        uri: Path of a zip or tar; a brace pattern such as ``{00000..00999}.tar``; or a folder of
            tars and tables as img2dataset writes it.
        is_picture: Returns True for the name and the first bytes of a picture.
        hidden: Include members whose names begin with a dot.

    Raises:
        SourceError: The pattern is not valid, or an archive is not there.
    """
    uri = absolute_path(uri)
    if is_shards_folder(uri):
        paths = list_shards(uri)
        names = [path.rpartition(b"/")[2] for path in paths]
    else:
        paths = expand_paths(uri)
        names = relative_names(paths)
    files = [
        ArchiveFile(
            name,
            display_path(path),
            partial(_open, path),
            partial(stamp_with_table, path),
            partial(_size, path),
            find_table(path),
        )
        for name, path in zip(names, paths, strict=True)
    ]
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - bytes
            raise SourceError(f"{display_path(path)} is a folder.", "Give the path of an archive.")
        file_stamp(path)
    return ArchiveSource("archive", uri, files, is_picture, hidden=hidden)


def _size(path: bytes) -> int:
    return os.path.getsize(path)  # noqa: PTH202 - bytes


def _open(path: bytes) -> BinaryIO:
    try:
        return open_regular_file(path)
    except OSError as error:
        raise SourceError(
            f"{display_path(path)} cannot be read: {os_error_reason(error)}.",
            "Check the path and its permissions.",
        ) from error
