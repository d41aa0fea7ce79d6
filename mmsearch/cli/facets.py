"""``mmsearch facets``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch.cli import output
from mmsearch.cli.fast_args import options_of
from mmsearch.cli.options import check_device
from mmsearch.cli.search import DESCRIPTION, with_options
from mmsearch.core.display import display_path
from mmsearch.core.facets import DEFAULT_FACET_VALUES, FACET_FIELDS, MAX_FACET_VALUES
from mmsearch.core.filters import FILTERS
from mmsearch.core.query import Band, Query

if TYPE_CHECKING:
    from mmsearch.core.facets import Facet, Facets

_BAR_COLUMNS = 20
"""Columns of the longest bar."""

_OPTION_NAMES = (
    *("name", "home", "no_fold", "without", "image", "like", "unlike", "mode", "literal"),
    *(spec.name for spec in FILTERS),
    *("device", "as_json"),
)
_QUERY_OPTIONS = [
    options_of("query")[name] for name in _OPTION_NAMES if name in options_of("query")
]


def _with_own_options(command: Any) -> Any:
    """Add the options that only this command has, before those of ``query``."""
    own = [
        Parameter(
            "by",
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                list[str] | None,
                typer.Option(
                    "--by",
                    help=f"Fields to count by, joined by commas: {', '.join(FACET_FIELDS)}.",
                    metavar="FIELDS",
                    show_default="all",
                ),
            ],
        ),
        Parameter(
            "limit",
            Parameter.KEYWORD_ONLY,
            default=DEFAULT_FACET_VALUES,
            annotation=Annotated[
                int,
                typer.Option(
                    "--limit",
                    help="Maximum number of values of a field.",
                    metavar="N",
                    min=1,
                    max=MAX_FACET_VALUES,
                ),
            ],
        ),
    ]
    signature = command.__signature__
    argument, *others = signature.parameters.values()
    command.__signature__ = signature.replace(parameters=[argument, *own, *others])
    return command


@_with_own_options
@with_options(DESCRIPTION, _QUERY_OPTIONS)
def facets(**values: Any) -> None:
    """Count pictures by year, place, camera, folder and other fields.

    Each line ends with the option that narrows a search to these pictures. With a description, its
    best 1,000 hits count, without weak matches if there are others.

    Example: mmsearch facets beach --by year,place --person Anna
    """
    fields = [name.strip() for names in values["by"] or () for name in names.split(",")]
    check_device(values["device"])
    from mmsearch.cli.search_command import open_index

    with open_index(values) as index:
        found = index.facets(
            _make_query(values),
            fields=fields or None,
            limit=values["limit"],
            fold=not values["no_fold"],
            literal=values["literal"],
        )
    if found.understood is not None and not values["as_json"]:
        output.warn(f"Read as: {found.understood.line}; --literal turns this off.")
    if found.match is Band.UNLIKELY and not values["as_json"]:
        output.warn("Best guesses: no picture is at least a possible match.")
    if values["as_json"]:
        output.print_json(found.to_dict())
    elif sys.stdout.isatty():
        _print_bars(found)
    else:
        output.print_tsv(_iter_rows(found))


def _make_query(values: Mapping[str, Any]) -> Query:
    from mmsearch.cli.search_command import make_request, parse_filter_options

    given = {name: values[name] for name in _OPTION_NAMES if name in values}
    if not any(values.get(name) for name in ("text", "without", "image", "like", "unlike")):
        return Query((), parse_filter_options(values))
    for name in ("home", "device", "as_json"):
        del given[name]
    return make_request("query", text=values["text"], **given).query


def _iter_rows(found: Facets) -> Iterator[tuple[object, ...]]:
    """Yield field, value, number of pictures and options; the value is empty for those without."""
    for facet in found.facets:
        for value in facet.values:
            yield facet.field, value.value, value.count, _format_options(value.filter)
        if facet.missing:
            yield facet.field, "", facet.missing, ""


def _print_bars(found: Facets) -> None:
    pictures = "picture" if found.counted == 1 else "pictures"
    rest = f" of {found.of:,} that pass the filters" if found.query else ""
    output.print_line(f"{found.counted:,} {pictures}{rest}")
    for facet in found.facets:
        if facet.values:
            output.print_line("")
            for line in _format_facet(facet):
                output.print_line(line)


def _format_facet(facet: Facet) -> Iterator[str]:
    yield FACET_FIELDS[facet.field]
    labels = [display_path(value.label) for value in facet.values]
    largest = max(value.count for value in facet.values)
    label_columns = min(max(map(len, labels)), output.MAX_TEXT_COLUMNS)
    count_columns = len(f"{largest:,}")
    for label, value in zip(labels, facet.values, strict=True):
        bar = "█" * max(1, round(_BAR_COLUMNS * value.count / largest))
        options = _format_options(value.filter)
        line = f"  {label:<{label_columns}}  {value.count:>{count_columns},}"
        yield f"{line}  {bar:<{_BAR_COLUMNS}}  {options}".rstrip()
    more = facet.distinct - len(facet.values)
    if more:
        yield f"  and {more:,} more; --limit shows more of them"
    if facet.missing:
        yield f"  {facet.missing:,} without"


def _format_options(narrowing: Mapping[str, Any] | None) -> str:
    """Return filters as options of the command line."""
    words = []
    for name, value in (narrowing or {}).items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", str(each)]
    return " ".join(map(_quote, words))


def _quote(word: str) -> str:
    """Return a word as shells read it; zsh replaces an unquoted =NAME by the path of a program."""
    quoted = shlex.quote(word)
    return f"'{word}'" if quoted.startswith("=") else quoted
