"""Queries and filters from what a person types."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Literal, cast

from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.files import expand_user
from mmsearch.core.queries import Filters, Mode, Query, Term
from mmsearch.search import query_parser as language
from mmsearch.search.filter_parser import parse_condition, parse_date, parse_near


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
    """A query from a line of the query language, and what is said beside it.

    Args:
        line: See docs/query-language.md; may be empty if there are pictures.
        without: What pictures should not look like.
        images: Pictures that they shall look like.
        like: Likewise, pictures of the index by their ids.
        urls: Likewise, by URL; only a server that fetches them can answer.
        filters: Which pictures may be found.
        mode: ``vector``, ``text`` or ``hybrid``; None: hybrid if the index has texts.
        blend: Name of the ranking that joins both in hybrid mode; None: the default.
        prompts: Phrasings of a text, each with one ``{}``; None: the model's own.

    Raises:
        InvalidQueryError: Nothing is asked for, or there is no such mode.
    """
    pictures = [Term(image=expand_user(image)) for image in images]
    pictures += [Term(picture=image_id) for image_id in like]
    pictures += [Term(url=url) for url in urls]
    terms = list(language.parse_query(line)) if line.strip() else []
    negatives = [Term(text, weight=-1.0) for text in without]
    if mode is not None and mode not in {known_mode.value for known_mode in Mode}:
        raise InvalidQueryError(
            f"Unknown mode {mode!r}.",
            f"Known: {', '.join(known_mode.value for known_mode in Mode)}.",
        )
    return Query(
        language.check_terms([*pictures, *terms, *negatives]),
        filters or Filters(),
        None if mode is None else Mode(mode),
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
    """Filters from texts; see `mmsearch.core.queries.Filters` for what each means.

    Args:
        paths: Patterns as in .gitignore.
        after: ``2020``, ``2020-06``, ``2020-06-15`` or ``2020-06-15T12:30``.
        before: Likewise.
        min_width: Pixels.
        min_height: Pixels.
        orientation: ``landscape``, ``portrait`` or ``square``.
        formats: Such as ``jpeg``; ``jpg`` means the same.
        cameras: Parts of names.
        near: ``LAT,LON,KM``.
        tags: Keywords.
        where: A condition such as ``width > 1000 and 'nikon' in camera``.

    Raises:
        InvalidQueryError: One of them cannot be read.
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
