"""``mmsearch query`` and ``mmsearch similar``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mmsearch.cli.fast_args import Option, options_of, rewrite_negative_terms
from mmsearch.cli.options import check_choice, typer_option

Command = Callable[..., None]


class QueryCommand(TyperCommand):
    """A command whose arguments may be negative terms: ``street -people``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse arguments after rewriting ``-people`` as ``--not=people``."""
        return super().parse_args(ctx, rewrite_negative_terms(args))


def with_options(argument: Parameter, options: Iterable[Option]) -> Callable[[Command], Command]:
    """Give a command, which takes any parameters, the signature that typer reads.

    Args:
        argument: Its positional argument.
        options: Its options, of those of ``query``.
    """

    def decorate(command: Command) -> Command:
        parameters = [argument]
        for option in options:
            value_type: Any = list[option.type] if option.multiple else option.type  # type: ignore[name-defined]
            optional = value_type if option.default is not None else value_type | None
            annotation = Annotated[optional, typer_option(option.name)]  # type: ignore[valid-type]
            parameters.append(
                Parameter(
                    option.name,
                    Parameter.KEYWORD_ONLY,
                    default=option.default,
                    annotation=annotation,
                )
            )
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return command

    return decorate


def _check_choices(values: Mapping[str, Any]) -> None:
    for option in options_of("query").values():
        if option.choices:
            check_choice(values[option.name], option.choices, option.flags[0])


DESCRIPTION = Parameter(
    "text",
    Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        list[str] | None,
        typer.Argument(help="Description in the query language.", show_default=False),
    ],
)
"""The argument of a command that takes a description."""


@with_options(DESCRIPTION, options_of("query").values())
def query(**values: Any) -> None:
    """Find pictures by describing them.

    Join terms with + and -. A number before a term is its weight; a path is a picture.

    Example: mmsearch query "2:golden retriever + snow -people" -k 5 --after 2020 --sheet dogs.html
    """
    _check_choices(values)
    from mmsearch.cli import search_command

    search_command.query(**values)


@with_options(
    Parameter(
        "image",
        Parameter.KEYWORD_ONLY,
        annotation=Annotated[
            Path, typer.Argument(help="Picture to compare with.", show_default=False)
        ],
    ),
    options_of("similar").values(),
)
def similar(**values: Any) -> None:
    """Find pictures similar to a picture.

    Its near duplicates and the pictures of its burst are one hit with their number, such as +3;
    --no-fold lists them.

    Example: mmsearch similar ./windmill.jpg
    """
    _check_choices(values)
    from mmsearch.cli import search_command

    search_command.similar(**values)
