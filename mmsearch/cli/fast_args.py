"""Fast parser for ``query`` and ``similar``: importing typer takes longer than a search.

Only arguments that are clearly valid are parsed here. Everything else is left to typer: help, and
mistakes, so that one place reports them. A test compares these tables with the signatures that
typer reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DEVICES = ("auto", "cuda", "mps", "cpu")

_INTEGER_PATTERN = re.compile(r"0|[1-9][0-9]{0,8}")
_DECIMAL_PATTERN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_QUOTE = '"'

# No option of mmsearch is spelled with one dash and a word.
_NEGATIVE_TERM_PATTERN = re.compile(r"-[^\W\d_]{2,}.*|-\".*\"")


class Option(NamedTuple):
    """The parameter of an option, and how to parse its value.

    Attributes:
        name: Name of the parameter.
        parse: Parser of the value; its ValueError leaves the command to typer. None for a flag.
        multiple: True if the option may be repeated; its values form a list.
    """

    name: str
    parse: Callable[[str], Any] | None = None
    multiple: bool = False


class ParsedCommand(NamedTuple):
    """A command and the parameters that were given."""

    command: str
    values: dict[str, Any]


def _parse_int(text: str) -> int:
    if not _INTEGER_PATTERN.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _parse_float(text: str) -> float:
    if not _DECIMAL_PATTERN.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _parse_device(text: str) -> str:
    if text not in DEVICES:
        raise ValueError(text)
    return text


_SHARED_OPTIONS = {
    "-k": Option("k", _parse_int),
    "--index": Option("name", str),
    "--home": Option("home", Path),
    "--min-score": Option("min_score", _parse_float),
    "--json": Option("as_json"),
    "--paths": Option("paths"),
    "--print0": Option("print0"),
    "-0": Option("print0"),
    "--sheet": Option("sheet", Path),
    "--open": Option("open_"),
    "--device": Option("device", _parse_device),
    "--verbose": Option("verbose"),
    "-v": Option("verbose"),
}

OPTIONS: dict[str, dict[str, Option]] = {
    "query": {
        **_SHARED_OPTIONS,
        "--not": Option("without", str, multiple=True),
        "--image": Option("image", Path, multiple=True),
        "--mode": Option("mode", str),
        "--blend": Option("blend", str),
        "--prompt": Option("prompt", str, multiple=True),
        "--path": Option("path", str, multiple=True),
        "--after": Option("after", str),
        "--before": Option("before", str),
        "--min-width": Option("min_width", _parse_int),
        "--min-height": Option("min_height", _parse_int),
        "--orientation": Option("orientation", str),
        "--format": Option("file_format", str, multiple=True),
        "--camera": Option("camera", str, multiple=True),
        "--near": Option("near", str),
        "--tag": Option("tag", str, multiple=True),
        "--where": Option("where", str),
        "--min-confidence": Option("min_confidence", _parse_float),
        "--batch": Option("batch", Path),
    },
    "similar": _SHARED_OPTIONS,
}


def rewrite_negative_terms(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``-people`` rewritten as ``--not=people``, up to ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        "--not=" + argument[1:].strip(_QUOTE)
        if _NEGATIVE_TERM_PATTERN.fullmatch(argument)
        else argument
        for argument in arguments[:end]
    ] + list(arguments[end:])


def parse_args(arguments: Sequence[str]) -> ParsedCommand | None:
    """Return the command with its parameters; None if typer must parse them.

    Args:
        arguments: Command-line arguments, without the program name.
    """
    if not arguments or arguments[0] not in OPTIONS:
        return None
    command = arguments[0]
    command_args = (
        rewrite_negative_terms(arguments[1:]) if command == "query" else list(arguments[1:])
    )
    try:
        values = _parse_options(OPTIONS[command], command_args)
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


def _parse_options(options: dict[str, Option], arguments: list[str]) -> dict[str, Any]:
    """Return the values by parameter; positional arguments are under ``""``."""
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
        option = options.get(name)
        if option is None or (separator and option.parse is None):
            raise ValueError(argument)
        if option.parse is None:
            values[option.name] = True
            continue
        if not separator:
            value = next(remaining, "")
            if value.startswith("-"):
                raise ValueError(value)
        value.encode()
        if not value:
            raise ValueError(argument)
        if option.multiple:
            values.setdefault(option.name, []).append(option.parse(value))
        else:
            values[option.name] = option.parse(value)
    return values
