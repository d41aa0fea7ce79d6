"""Parsing of queries, filters and folders that users give."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import Literal, cast

from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError
from mmsearch.core.files import expand_user
from mmsearch.core.query import Filters, Mode, Query, Term
from mmsearch.search import query_parser as language
from mmsearch.search.filter_parser import parse_condition, parse_date, parse_near

StrPath = str | bytes | os.PathLike[str]


def parse_query(
    line: str = "",
    *,
    without: Iterable[str] = (),
    images: Iterable[str | os.PathLike[str]] = (),
    like: Iterable[int] = (),
    urls: Iterable[str] = (),
    filters: Filters | None = None,
    mode: str | None = None,
    blend: str | None = None,
    prompts: Sequence[str] | None = None,
) -> Query:
    """Return a query from a line of the query language and further options.

    Args:
        line: A line of the query language; may be empty if there are pictures.
        without: Descriptions of what the results should not look like.
        images: Paths of pictures that the results should look like.
        like: Ids of indexed pictures that the results should look like.
        urls: URLs of pictures that the results should look like; only a server that fetches URLs
            can answer such a query.
        filters: Filters that restrict the results; None for no restriction.
        mode: ``vector``, ``text`` or ``hybrid``; None for hybrid if the index has texts, else
            vector.
        blend: Name of the rank fusion of hybrid mode; None for the default.
        prompts: Prompt templates, each with one ``{}``; None for those of the model.

    Raises:
        InvalidQueryError: The query is empty or invalid, or the mode is unknown.
    """
    pictures = [Term(image=expand_user(image)) for image in images]
    pictures += [Term(picture=image_id) for image_id in like]
    pictures += [Term(url=url) for url in urls]
    terms = list(language.parse_query(line)) if line.strip() else []
    negatives = [Term(text, weight=-1.0) for text in without]
    parsed_mode = parse_mode(mode)
    return Query(
        language.check_terms([*pictures, *terms, *negatives]),
        filters or Filters(),
        parsed_mode,
        blend,
        None if prompts is None else tuple(prompts),
    )


def parse_filters(
    *,
    paths: Iterable[str] = (),
    after: str | None = None,
    before: str | None = None,
    min_width: int | None = None,
    min_height: int | None = None,
    orientation: str | None = None,
    formats: Iterable[str] = (),
    cameras: Iterable[str] = (),
    near: str | None = None,
    tags: Iterable[str] = (),
    where: str | None = None,
) -> Filters:
    """Return filters parsed from texts; see `mmsearch.Filters`.

    Args:
        paths: Path patterns, as in .gitignore.
        after: Earliest date: ``2020``, ``2020-06``, ``2020-06-15`` or ``2020-06-15T12:30``.
        before: Date that pictures must be earlier than, in the same format.
        min_width: Minimum width in pixels.
        min_height: Minimum height in pixels.
        orientation: ``landscape``, ``portrait`` or ``square``.
        formats: Formats such as ``jpeg``; ``jpg`` means the same.
        cameras: Parts of camera names.
        near: A circle, ``LAT,LON,KM``.
        tags: Keywords that a picture must have.
        where: A condition such as ``width > 1000 and 'nikon' in camera``.

    Raises:
        InvalidQueryError: A filter is invalid.
    """
    known_orientations = ("landscape", "portrait", "square")
    if orientation is not None and orientation.lower() not in known_orientations:
        raise InvalidQueryError(
            f"Unknown orientation {orientation!r}.", f"Known: {', '.join(known_orientations)}."
        )
    format_aliases = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}
    normalized = None if orientation is None else orientation.lower()
    return Filters(
        paths=tuple(paths),
        after=None if after is None else parse_date(after),
        before=None if before is None else parse_date(before),
        min_width=min_width,
        min_height=min_height,
        orientation=cast("Literal['landscape', 'portrait', 'square'] | None", normalized),
        formats=tuple(format_aliases.get(name.lower(), name.upper()) for name in formats),
        cameras=tuple(cameras),
        near=None if near is None else parse_near(near),
        tags=tuple(tags),
        where=None if where is None else parse_condition(where),
    )


def parse_mode(mode: str | None) -> Mode | None:
    """Return the search mode of a name; None for None.

    Raises:
        InvalidQueryError: There is no mode with that name.
    """
    try:
        return None if mode is None else Mode(mode)
    except ValueError:
        raise InvalidQueryError(f"Unknown mode {mode!r}.", f"Known: {', '.join(Mode)}.") from None


def resolve_folder(folder: StrPath) -> bytes:
    """Return the absolute path of an existing folder.

    Raises:
        SourceError: The path does not exist or is not a folder.
    """
    path = os.path.abspath(os.path.expanduser(os.fsencode(folder)))  # noqa: PTH100, PTH111
    display = display_path(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SourceError(f"There is no folder {display}.") from None
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{display} is a file, not a folder.", "Use the folder that contains it.")
    return path
