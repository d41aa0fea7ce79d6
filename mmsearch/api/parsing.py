"""Parsing of queries, filters and folders that users give."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, Signature
from typing import Any

from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError
from mmsearch.core.files import expand_user
from mmsearch.core.filters import FILTERS, NO_FILTERS, Filters
from mmsearch.core.query import Mode, Query, Term
from mmsearch.search import query_parser as language

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
        filters or NO_FILTERS,
        parsed_mode,
        blend,
        None if prompts is None else tuple(prompts),
    )


_FORMAT_ALIASES = {"jpg": "JPEG", "tif": "TIFF", "heic": "HEIF"}


def parse_filters(**values: Any) -> Filters:
    """Return filters parsed from texts; see `mmsearch.core.filters.Filters`.

    Args:
        **values: Values by the names of the attributes of `Filters`; a filter that is None or empty
            is not set. Numbers and texts are given as they are. A date is ``2020``, ``2020-06``,
            ``2020-06-15`` or ``2020-06-15T12:30``; a format is one such as ``jpeg`` (``jpg`` means
            the same); a circle is ``LAT,LON,KM``; a condition is one such as ``width > 1000 and
            'nikon' in camera``.

    Raises:
        InvalidQueryError: A filter is invalid.
        TypeError: There is no filter with that name.
    """
    parsed: dict[str, Any] = {}
    for spec in FILTERS:
        value = values.pop(spec.keyword, None)
        if value is None:
            continue
        if spec.kind == "choice":
            value = value.lower()
            if value not in spec.choices:
                raise InvalidQueryError(
                    f"Unknown {spec.name} {value!r}.", f"Known: {', '.join(spec.choices)}."
                )
        parse = _find_filter_parser(spec.kind)
        if parse is not None:
            value = map(parse, value) if spec.multiple else parse(value)
        parsed[spec.keyword] = tuple(value) if spec.multiple else value
    if values:
        raise TypeError(f"parse_filters() got unexpected arguments: {', '.join(values)}")
    return Filters(**parsed)


def _find_filter_parser(kind: str) -> Callable[[Any], object] | None:
    """Return the parser of a `FilterSpec.kind`; None if its values are not parsed."""
    from mmsearch.core import filter_parser  # noqa: PLC0415 - queries without filters skip it

    return {
        "date": filter_parser.parse_date,
        "circle": filter_parser.parse_near,
        "condition": filter_parser.parse_condition,
        "format": lambda name: _FORMAT_ALIASES.get(name.lower(), name.upper()),
    }.get(kind)


# Editors and notebooks complete the names of the filters.
parse_filters.__signature__ = Signature(  # type: ignore[attr-defined]
    [
        Parameter(
            spec.keyword,
            Parameter.KEYWORD_ONLY,
            default=() if spec.multiple else False if spec.kind == "flag" else None,
            annotation="Iterable[str]"
            if spec.multiple
            else {"pixels": "int | None", "stars": "int | None", "flag": "bool"}.get(
                spec.kind, "str | None"
            ),
        )
        for spec in FILTERS
    ],
    return_annotation="Filters",
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
