"""Options of ``query`` and ``similar``, and a fast parser for them.

Importing typer takes longer than a search. Only arguments that are clearly valid are parsed here.
Everything else is left to typer, which reads the same table: help, and mistakes, so that one place
reports them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmsearch.core.filters import FILTERS
from mmsearch.core.settings import DEVICES
from mmsearch.core.sorting import SORTS

_PATTERNS: dict[type, re.Pattern[str]] = {
    int: re.compile(r"0|[1-9][0-9]{0,8}"),
    float: re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?"),
}
_FILTER_TYPES: dict[str, type] = {"pixels": int, "stars": int, "flag": bool}
_QUOTE = '"'

# No option of mmsearch is spelled with one dash and a word.
_NEGATIVE_TERM_PATTERN = re.compile(r"-[^\W\d_]{2,}.*|-\".*\"")


class Option(NamedTuple):
    """An option of ``query`` or ``similar``.

    Attributes:
        name: Name of the parameter.
        flags: Spellings of the option.
        help: Help of the option.
        type: Type of the value; bool for a flag without one.
        metavar: Placeholder of the value in help.
        default: Value if the option is not given.
        multiple: True if the option may be repeated; its values form a list.
        choices: Valid values; empty if any value of the type may be valid.
        min: Least valid number; None for no limit.
        max: Greatest valid number; None for no limit.
        show_default: Default in help, if it is not the value above.
        of_similar: True if ``similar`` has the option too.
    """

    name: str
    flags: tuple[str, ...]
    help: str
    type: type = bool
    metavar: str | None = None
    default: Any = None
    multiple: bool = False
    choices: tuple[str, ...] = ()
    min: float | None = None
    max: float | None = None
    show_default: bool | str = True
    of_similar: bool = False

    def parse(self, text: str) -> Any:
        """Return the value of a text.

        Raises:
            ValueError: The text is not clearly valid.
        """
        pattern = _PATTERNS.get(self.type)
        if (pattern and not pattern.fullmatch(text)) or (self.choices and text not in self.choices):
            raise ValueError(text)
        value = self.type(text)
        if (self.min is not None and value < self.min) or (
            self.max is not None and value > self.max
        ):
            raise ValueError(text)
        return value


OPTIONS = (
    Option("k", ("-k",), "Maximum number of hits.", int, "N", 10, min=1, of_similar=True),
    Option(
        "sort",
        ("--sort",),
        "Order of these hits: score, date, -date (newest first), name, -name, size or -size.",
        str,
        "ORDER",
        "score",
        choices=tuple(SORTS),
        of_similar=True,
    ),
    Option(
        "no_fold",
        ("--no-fold",),
        "List near duplicates and pictures of a burst as hits of their own; default: one, and +N.",
        default=False,
        of_similar=True,
    ),
    Option(
        "literal",
        ("--literal",),
        "Read no dates, people and places in the description.",
        default=False,
    ),
    Option(
        "name",
        ("--index",),
        "Name of the index; several are searched as one.",
        str,
        "NAME",
        ["default"],
        multiple=True,
        of_similar=True,
    ),
    Option(
        "home",
        ("--home",),
        "Folder of the indexes.",
        Path,
        "FOLDER",
        show_default=False,
        of_similar=True,
    ),
    Option(
        "without",
        ("--not",),
        "Rank pictures like TEXT lower (same as -WORD).",
        str,
        "TEXT",
        multiple=True,
    ),
    Option(
        "image",
        ("--image",),
        "Picture that the hits should look like.",
        Path,
        "FILE",
        multiple=True,
    ),
    Option(
        "like",
        ("--like",),
        "Id of a hit that is right (of several indexes, NAME:ID): rank pictures like it higher.",
        str,
        "ID",
        multiple=True,
    ),
    Option(
        "unlike",
        ("--unlike",),
        "Id of a hit that is wrong: leave it out, and rank pictures like it lower.",
        str,
        "ID",
        multiple=True,
    ),
    Option(
        "speech",
        ("--speech",),
        "Recording of a spoken description; - reads stdin.",
        Path,
        "FILE",
    ),
    Option(
        "speech_language",
        ("--speech-language",),
        "Language that is spoken in it, such as de.",
        str,
        "CODE",
        show_default="detected",
    ),
    Option(
        "mode",
        ("--mode",),
        "Search mode: vector (image content), text (words in texts) or hybrid (both).",
        str,
        "MODE",
        show_default="hybrid if there are texts",
    ),
    Option(
        "blend",
        ("--blend",),
        "How vector and text results are combined: log_odds, weighted_sum or reciprocal_rank.",
        str,
        "NAME",
    ),
    Option(
        "prompt",
        ("--prompt",),
        'Template for the description, such as "a photo of {}".',
        str,
        "TEXT",
        multiple=True,
    ),
    *(
        Option(
            spec.name,
            ("--" + spec.name.replace("_", "-"),),
            spec.help,
            _FILTER_TYPES.get(spec.kind, str),
            spec.metavar or None,
            default=False if spec.kind == "flag" else None,
            multiple=spec.multiple,
            min=0 if spec.kind in ("pixels", "stars") else None,
            max=5 if spec.kind == "stars" else None,
        )
        for spec in FILTERS
    ),
    Option(
        "min_score",
        ("--min-score",),
        "Leave out hits with a lower score.",
        float,
        "X",
        of_similar=True,
    ),
    Option(
        "min_confidence",
        ("--min-confidence",),
        "Leave out hits with a lower confidence, 0 to 1.",
        float,
        "P",
        min=0,
        max=1,
    ),
    Option(
        "batch",
        ("--batch",),
        "Answer each line of a file as one JSON line; - reads stdin.",
        Path,
        "FILE",
    ),
    Option("as_json", ("--json",), "Print one JSON object.", default=False, of_similar=True),
    Option(
        "paths",
        ("--paths",),
        "Print only absolute paths, one per line; escaped on a terminal, exact in a pipe.",
        default=False,
        of_similar=True,
    ),
    Option(
        "print0",
        ("--print0", "-0"),
        "Print only absolute paths, each followed by NUL.",
        default=False,
        of_similar=True,
    ),
    Option(
        "sheet",
        ("--sheet",),
        "Write a contact sheet of the hits: .png, .jpg or .html.",
        Path,
        "FILE",
        of_similar=True,
    ),
    Option(
        "open_",
        ("--open",),
        "Open the sheet, or else the best hit, in a viewer.",
        default=False,
        of_similar=True,
    ),
    Option(
        "device",
        ("--device",),
        "auto, cuda, mps or cpu.",
        str,
        "DEVICE",
        choices=DEVICES,
        show_default="auto",
        of_similar=True,
    ),
    Option(
        "verbose",
        ("--verbose", "-v"),
        "Print details such as the model and the generation.",
        default=False,
        of_similar=True,
    ),
)
"""Options of ``query`` and ``similar``, in the order of their help."""


def options_of(command: str) -> dict[str, Option]:
    """Return the options of a search command by the name of the parameter."""
    return {option.name: option for option in OPTIONS if command == "query" or option.of_similar}


def with_defaults(command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a search command; those without a value get their default.

    Raises:
        TypeError: The command has no parameter with that name, or its picture is missing.
    """
    defaults = {name: option.default for name, option in options_of(command).items()}
    if command == "query":
        defaults["text"] = None
    elif "image" not in values:
        raise TypeError("similar needs a picture")
    if unknown := values.keys() - defaults.keys() - {"image"}:
        raise TypeError(f"{command} has no parameters {sorted(unknown)}")
    return defaults | dict(values)


_FLAGS_WITH_VALUE = frozenset(
    flag for option in OPTIONS if option.type is not bool for flag in option.flags
)


class ParsedCommand(NamedTuple):
    """A command and the parameters that were given."""

    command: str
    values: dict[str, Any]


def rewrite_negative_terms(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``-people`` rewritten as ``--not=people``, up to ``--``.

    The value of an option is not rewritten: ``--sort -date``.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rewritten, is_value = [], False
    for argument in arguments[:end]:
        is_negative = not is_value and _NEGATIVE_TERM_PATTERN.fullmatch(argument)
        rewritten.append("--not=" + argument[1:].strip(_QUOTE) if is_negative else argument)
        is_value = not is_value and argument in _FLAGS_WITH_VALUE
    return [*rewritten, *arguments[end:]]


def parse_args(arguments: Sequence[str]) -> ParsedCommand | None:
    """Return the command with its parameters; None if typer must parse them.

    Args:
        arguments: Command-line arguments, without the program name.
    """
    if not arguments or arguments[0] not in ("query", "similar"):
        return None
    command = arguments[0]
    command_args = (
        rewrite_negative_terms(arguments[1:]) if command == "query" else list(arguments[1:])
    )
    try:
        values = _parse_options(options_of(command).values(), command_args)
    except ValueError:
        return None
    positionals = values.pop("", [])
    if command == "query":
        return ParsedCommand(command, values | ({"text": positionals} if positionals else {}))
    return (
        ParsedCommand(command, values | {"image": Path(positionals[0])})
        if len(positionals) == 1
        else None
    )


def _parse_options(options: Iterable[Option], arguments: list[str]) -> dict[str, Any]:
    """Return the values by parameter; positional arguments are under ``""``."""
    options_by_flag = {flag: option for option in options for flag in option.flags}
    values: dict[str, Any] = {}
    remaining = iter(arguments)
    for argument in remaining:
        # Undecodable bytes raise a ValueError here, so that typer rejects them.
        argument.encode()
        if argument == "-" or not argument.startswith("-"):
            values.setdefault("", []).append(argument)
            continue
        if argument.startswith("--"):
            name, separator, value = argument.partition("=")
        else:
            # A value may follow a short option directly, as in -k5.
            name, separator, value = argument[:2], argument[2:], argument[2:]
        option = options_by_flag.get(name)
        if option is None or (separator and option.type is bool):
            raise ValueError(argument)
        if option.type is bool:
            values[option.name] = True
            continue
        if not separator:
            value = next(remaining, "")
            if value.startswith("-") and value not in option.choices:
                raise ValueError(value)
        value.encode()
        if not value:
            raise ValueError(argument)
        if option.multiple:
            values.setdefault(option.name, []).append(option.parse(value))
        else:
            values[option.name] = option.parse(value)
    return values
