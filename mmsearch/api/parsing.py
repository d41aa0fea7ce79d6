"""Parsing of queries, filters and folders that users give."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any

from mmsearch.core.arguments import (
    FilterValues,
    Paths,
    PictureIds,
    StrPath,
    Texts,
    check_arguments,
    check_no_options,
    to_filters,
    to_paths,
    to_picture_ids,
    to_texts,
)
from mmsearch.core.display import display_path
from mmsearch.core.errors import InvalidQueryError, SourceError
from mmsearch.core.files import expand_user
from mmsearch.core.filters import FILTERS, NO_FILTERS, Filters, make_filters
from mmsearch.core.query import Mode, Query, Term
from mmsearch.search import query_parser as language

if TYPE_CHECKING:
    from mmsearch.core.speech import Transcript


@check_arguments()
def parse_query(
    line: str | Transcript = "",
    *,
    without: Texts = (),
    images: Paths = (),
    like: PictureIds = (),
    unlike: PictureIds = (),
    urls: Texts = (),
    filters: FilterValues | None = None,
    mode: str | None = None,
    blend: str | None = None,
    prompts: Texts | None = None,
    syntax: bool = True,
) -> Query:
    """Return a query from a line of the query language and further options.

    The line may name files of this machine, so it must not be the text of an untrusted person or
    of a language model; `Index.search` takes such a text literally.

    Args:
        line: A line of the query language; may be empty if there are pictures, or filters alone,
            which list the newest pictures first. A transcript of `Index.listen` is taken literally.
        without: Descriptions of what the results should not look like.
        images: Paths of pictures that the results should look like.
        like: Ids of indexed pictures that the results should look like, such as hits that are
            right.
        unlike: Ids of indexed pictures that the results should not look like, such as hits that
            are wrong. They are no hits.
        urls: URLs of pictures that the results should look like; only a server that fetches URLs
            can answer such a query.
        filters: Filters that restrict the results, or a mapping of them; None for no restriction.
        mode: ``vector``, ``text`` or ``hybrid``; None for hybrid if the index has texts, else
            vector.
        blend: Name of the rank fusion of hybrid mode; None for the default.
        prompts: Prompt templates, each with one ``{}``; None for those of the model.
        syntax: False to take the line as a literal text: no sign in it is read.

    Raises:
        InvalidQueryError: The query is empty or invalid, or the mode is unknown.
        UsageError: An argument has the wrong type.
    """
    pictures = [Term(image=expand_user(os.fsdecode(image))) for image in to_paths(images)]
    # The same click twice is one click.
    pictures += [Term(picture=image_id) for image_id in dict.fromkeys(to_picture_ids(like))]
    pictures += [Term(url=url) for url in to_texts(urls)]
    terms: Sequence[Term] = ()
    if not isinstance(line, str):
        terms = (line.term,)
    elif line.strip():
        terms = language.parse_query(line) if syntax else (Term(line.strip()),)
    negatives = [Term(text, weight=-1.0) for text in to_texts(without)]
    disliked = dict.fromkeys(to_picture_ids(unlike))
    negatives += [Term(picture=image_id, weight=-1.0) for image_id in disliked]
    parsed_filters = NO_FILTERS if filters is None else to_filters(filters)
    return Query(
        language.check_terms([*pictures, *terms, *negatives], may_be_empty=bool(parsed_filters)),
        parsed_filters,
        parse_mode(mode),
        blend,
        None if prompts is None else to_texts(prompts),
    )


def to_query(query: str | Transcript | Query, **options: Any) -> Query:
    """Return a parsed query as it is, or the query of a text.

    Args:
        query: A query, a text, or a transcript.
        **options: Options of `parse_query`, which a parsed query has itself.

    Raises:
        InvalidQueryError: The query is empty or invalid, or the mode is unknown.
        UsageError: An argument has the wrong type, or a parsed query comes with an option.
    """
    if isinstance(query, Query):
        check_no_options(**options)
        return query
    return parse_query(query, **options)


def parse_filters(**values: Any) -> Filters:
    """Return the filters of a search; the same as `Filters`, which also takes these values.

    Args:
        **values: Values by the names of the attributes of `Filters` (``tags``) or of the options
            (``tag``); a filter that is None or empty is not set. One text stands for a list of one.
            A date is ``2020``, ``2020-06``, ``2020-06-15``, ``2020-06-15T12:30``, a date or a
            datetime; a format is one such as ``jpeg`` (``jpg`` means the same); a circle is
            ``LAT,LON,KM`` or three numbers; a condition is one such as ``width > 1000 and 'nikon'
            in camera``.

    Raises:
        InvalidQueryError: A filter is invalid, or no filter has that name.
    """
    return make_filters(values)


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


def to_absolute_path(path: StrPath) -> bytes:
    """Return an absolute path, with ``~`` replaced by the home folder; it need not exist."""
    return os.path.abspath(os.path.expanduser(os.fsencode(path)))  # noqa: PTH100, PTH111


def is_folder(source: StrPath) -> bool:
    """Return True if a source is a folder of files, or may be the name of one that is missing."""
    raw = os.fsencode(source)
    if re.match(rb"[A-Za-z][A-Za-z0-9+.-]+://", raw):
        return False
    path = os.path.expanduser(raw)  # noqa: PTH111 - bytes paths
    from mmsearch.factories.sources import (  # noqa: PLC0415 - searches never need it
        is_folder_of_files,
        is_named_as_file,
    )

    if os.path.isdir(path):  # noqa: PTH112
        return is_folder_of_files(path)
    is_missing = not os.path.exists(path)  # noqa: PTH110
    return is_missing and not (re.search(rb"[{].*[}]", raw) or is_named_as_file(path))


def parse_choices(source: StrPath, kind: str | None, texts: Sequence[str]) -> dict[str, Any]:
    """Return the choices of a source written as ``NAME=VALUE``.

    Args:
        source: Path or URI of the source.
        kind: Kind of the source; None to guess it.
        texts: The choices.

    Raises:
        UsageError: A choice is unknown or its value is not valid.
    """
    from mmsearch.factories.sources import guess_kind  # noqa: PLC0415 - searches never need them
    from mmsearch.factories.sources import parse_choices as parse  # noqa: PLC0415

    return parse(kind or guess_kind(os.fsencode(source)), texts) if texts else {}


def resolve_folder(folder: StrPath) -> bytes:
    """Return the absolute path of an existing folder.

    Raises:
        SourceError: The path does not exist or is not a folder.
    """
    path = to_absolute_path(folder)
    display = display_path(path)
    try:
        status = os.stat(path)  # noqa: PTH116 - bytes paths need os
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise SourceError(
            f"There is no folder {display}.", "Check its name, or connect its drive."
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        raise SourceError(f"{display} is a file, not a folder.", "Use the folder that contains it.")
    return path
