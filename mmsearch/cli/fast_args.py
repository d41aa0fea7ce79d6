"""Arguments of ``query`` and ``similar``, read without typer, whose import outlasts a search.

Only what is plainly right is read here. Anything else is left to typer: help, and mistakes, so that
there is one place that says what is wrong with them. A test holds these tables to the signatures
that typer reads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

DEVICES = ("auto", "cuda", "mps", "cpu")

_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")
_REAL = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_QUOTE = '"'

# No option of ours is spelled with one dash and a word.
_TAKEN_AWAY = re.compile(r"-[^\W\d_]{2,}.*|-\".*\"")


class Option(NamedTuple):
    """What follows an option.

    Attributes:
        name: Of the parameter.
        parse: A value from its text; ValueError: typer shall look at it. None: nothing follows.
        repeats: The option may be given again; its values are a list.
    """

    name: str
    parse: Callable[[str], Any] | None = None
    repeats: bool = False


class Asked(NamedTuple):
    """A verb and the parameters that were given."""

    verb: str
    values: dict[str, Any]


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _real(text: str) -> float:
    if not _REAL.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _device(text: str) -> str:
    if text not in DEVICES:
        raise ValueError(text)
    return text


_OF_BOTH = {
    "-k": Option("k", _whole),
    "--index": Option("name", str),
    "--home": Option("home", Path),
    "--min-score": Option("min_score", _real),
    "--json": Option("as_json"),
    "--paths": Option("paths"),
    "--print0": Option("print0"),
    "-0": Option("print0"),
    "--sheet": Option("sheet", Path),
    "--open": Option("open_"),
    "--device": Option("device", _device),
    "--verbose": Option("verbose"),
    "-v": Option("verbose"),
}

OPTIONS: dict[str, dict[str, Option]] = {
    "query": {
        **_OF_BOTH,
        "--not": Option("without", str, repeats=True),
        "--image": Option("image", Path, repeats=True),
        "--mode": Option("mode", str),
        "--blend": Option("blend", str),
        "--prompt": Option("prompt", str, repeats=True),
        "--path": Option("path", str, repeats=True),
        "--after": Option("after", str),
        "--before": Option("before", str),
        "--min-width": Option("min_width", _whole),
        "--min-height": Option("min_height", _whole),
        "--orientation": Option("orientation", str),
        "--format": Option("file_format", str, repeats=True),
        "--camera": Option("camera", str, repeats=True),
        "--near": Option("near", str),
        "--tag": Option("tag", str, repeats=True),
        "--where": Option("where", str),
        "--min-confidence": Option("min_confidence", _real),
        "--batch": Option("batch", Path),
    },
    "similar": _OF_BOTH,
}


def turned(arguments: Sequence[str]) -> list[str]:
    """Arguments in which ``-people`` stands as ``--not=people``, as far as ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        "--not=" + each[1:].strip(_QUOTE) if _TAKEN_AWAY.fullmatch(each) else each
        for each in arguments[:end]
    ] + list(arguments[end:])


def read(arguments: Sequence[str]) -> Asked | None:
    """A verb with its parameters; None: typer shall read them.

    Args:
        arguments: Of the command, its name left away.
    """
    if not arguments or arguments[0] not in OPTIONS:
        return None
    verb = arguments[0]
    rest = turned(arguments[1:]) if verb == "query" else list(arguments[1:])
    try:
        values = _values(OPTIONS[verb], rest)
    except ValueError:
        return None
    words = values.pop("", [])
    if verb == "query":
        return Asked(verb, values | ({"text": words} if words else {}))
    return Asked(verb, values | {"image": Path(words[0])}) if len(words) == 1 else None


def _values(options: dict[str, Option], arguments: list[str]) -> dict[str, Any]:
    """By parameter; words that belong to no option by ``""``."""
    found: dict[str, Any] = {}
    left = iter(arguments)
    for each in left:
        # No text, as an undecodable byte, is for typer to refuse.
        each.encode()
        if each == "-" or not each.startswith("-"):
            found.setdefault("", []).append(each)
            continue
        if each.startswith("--"):
            name, sign, value = each.partition("=")
        else:
            # As in -k5.
            name, sign, value = each[:2], each[2:], each[2:]
        option = options.get(name)
        if option is None or (sign and option.parse is None):
            raise ValueError(each)
        if option.parse is None:
            found[option.name] = True
            continue
        if not sign:
            value = next(left, "")
            if value.startswith("-"):
                raise ValueError(value)
        value.encode()
        if not value:
            raise ValueError(each)
        if option.repeats:
            found.setdefault(option.name, []).append(option.parse(value))
        else:
            found[option.name] = option.parse(value)
    return found
