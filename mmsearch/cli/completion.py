"""Completion of the arguments of searches in a shell, without typer, which takes longer to import.

The scripts of ``mmsearch --install-completion`` run the program with variables that hold the line,
and read candidates from its output. Bash expands patterns in them and zsh evaluates them, and words
in a library may come from anyone: only words of letters, digits and a few harmless marks are
printed. Nothing is written, an error gives no candidates, and what is not known here is left to
typer.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmsearch.cli.fast_args import Option, options_of
from mmsearch.core.filters import FILTERS

if TYPE_CHECKING:
    from mmsearch.catalog.suggestions import Suggestions
    from mmsearch.core.suggestions import Suggestion

VARIABLE = "_MMSEARCH_COMPLETE"
"""Variable with the shell that asks for completions."""

LIMIT = 20
"""Maximum number of candidates that are words."""

MODES = ("vector", "text", "hybrid")
KINDS = {"tag": "tag", "auto_tag": "tag", "person": "person", "place": "place"}
"""Kind of suggestion that completes a filter."""

COLUMNS = {"camera": "camera", "format": "format"}
"""Column of the items that completes a filter."""

_ARGUMENTS, _FISH_ACTION = "_TYPER_COMPLETE_ARGS", "_TYPER_COMPLETE_FISH_ACTION"
_HARMLESS = re.compile(r"\w[\w .,/+-]*")
_CHOICES = {"mode": MODES, **{spec.name: spec.choices for spec in FILTERS if spec.choices}}


class Line(NamedTuple):
    """A command line that is being typed.

    Attributes:
        arguments: The arguments before the one that is completed, without the program.
        current: What is typed of the one that is completed.
        is_quoted: True if it begins with a quotation mark.
        before: What bash has split off the current argument, such as ``--index=``.
    """

    arguments: list[str]
    current: str
    is_quoted: bool = False
    before: str = ""


class Candidate(NamedTuple):
    """A candidate for an argument, and a description of it."""

    text: str
    description: str = ""


def complete(environment: Mapping[str, str]) -> int | None:
    """Print candidates for the line in the environment.

    Returns:
        The exit code; None if typer must answer.
    """
    shell = environment.get(VARIABLE, "").removeprefix("complete_")
    try:
        line = _read_line(shell, environment)
        candidates = None if line is None else find_candidates(line)
    except Exception:  # noqa: BLE001 - nobody who presses Tab wants to read it
        return 0
    if line is None or candidates is None:
        return None
    harmless = [one for one in candidates if _is_harmless(one)]
    if shell == "fish" and environment.get(_FISH_ACTION) == "is-args":
        return 0 if harmless else 1
    sys.stdout.write(_format(shell, line, harmless))
    return 0


def find_candidates(line: Line) -> list[Candidate] | None:
    """Return candidates for a line, none if it takes a file; None if typer must answer."""
    command, *arguments = line.arguments or [""]
    options = {flag: one for one in options_of("query").values() for flag in one.flags}
    if command not in ("query", "similar"):
        options = {flag: option for flag, option in options.items() if option.name == "name"}
    flag, separator, value = (line.before + line.current).partition("=")
    if separator and flag in options:
        found = _complete_value(options[flag], value, arguments)
        # Bash has split the name of the option off; other shells replace it.
        kept = "" if line.before else f"{flag}="
        return [Candidate(kept + one.text, one.description) for one in found]
    last = arguments[-1] if arguments else ""
    if last in options and options[last].type is not bool:
        return _complete_value(options[last], line.current, arguments)
    if command not in ("query", "similar"):
        return None
    if line.current.startswith("--") or line.current == "-":
        flags = [flag for one in options_of(command).values() for flag in one.flags[:1]]
        return [Candidate(flag) for flag in flags if flag.startswith(line.current)]
    if command == "similar":
        return []
    return _complete_words(line, arguments, options)


def _complete_words(
    line: Line, arguments: Sequence[str], options: Mapping[str, Option]
) -> list[Candidate]:
    """Return candidates for the words of a query, given those before."""
    words = _positional_arguments(arguments, options)
    num_words = len(" ".join(words).split())
    suggestions = _suggest(" ".join([*words, line.current]), arguments, ())
    found = []
    for suggestion in suggestions:
        text = " ".join(suggestion.text.split()[num_words:])
        found.append(Candidate(_keep_typed(line.current, text), _describe(suggestion)))
    return found


def _complete_value(option: Option, current: str, arguments: Sequence[str]) -> list[Candidate]:
    """Return candidates for the value of an option; none for a file or a free text."""
    values: Iterable[str] = option.choices or _CHOICES.get(option.name, ())
    if option.name == "name":
        values = _list_indexes(arguments)
    if option.name in KINDS:
        return [
            Candidate(_keep_typed(current, one.text), _describe(one))
            for one in _suggest(current, arguments, (KINDS[option.name],))
            if one.text.casefold().startswith(current.casefold()) or current.isascii()
        ]
    if option.name in COLUMNS:
        values = _list_values(COLUMNS[option.name], arguments)
    folded = current.casefold()
    return [
        Candidate(_keep_typed(current, value))
        for value in values
        if value.casefold().startswith(folded)
    ]


def _positional_arguments(arguments: Sequence[str], options: Mapping[str, Option]) -> list[str]:
    words: list[str] = []
    remaining = iter(arguments)
    for argument in remaining:
        option = options.get(argument)
        if argument == "--":
            return [*words, *remaining]
        if option is not None:
            if option.type is not bool:
                next(remaining, "")
        elif not argument.startswith("--"):
            words.append(argument)
    return words


def _suggest(prefix: str, arguments: Sequence[str], kinds: Sequence[str]) -> list[Suggestion]:
    from mmsearch.catalog.suggestions import open_suggestions
    from mmsearch.core.suggestions import check_kinds

    catalog = _find_catalog(arguments)
    if catalog is None:
        return []
    with open_suggestions(catalog) as suggestions:
        return suggestions.suggest(prefix, LIMIT, check_kinds(kinds))


def _list_values(column: str, arguments: Sequence[str]) -> list[str]:
    from mmsearch.catalog.suggestions import open_suggestions

    catalog = _find_catalog(arguments)
    if catalog is None:
        return []
    suggestions: Suggestions
    with open_suggestions(catalog) as suggestions:
        return suggestions.list_values(column)


def _find_catalog(arguments: Sequence[str]) -> Path | None:
    name = _value_of("--index", arguments) or "default"
    catalog = _indexes_home(arguments) / name / "catalog.sqlite"
    return catalog if "/" not in name and catalog.is_file() else None


def _list_indexes(arguments: Sequence[str]) -> list[str]:
    home = _indexes_home(arguments)
    return sorted(path.parent.name for path in home.glob("[!.]*/catalog.sqlite"))


def _indexes_home(arguments: Sequence[str]) -> Path:
    from mmsearch.core.settings import load_settings

    home = _value_of("--home", arguments)
    return load_settings().with_flags(home=Path(home) if home else None).indexes_home()


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
    """Return the value that an option was given, without checking the others."""
    for position, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
        if argument == flag and position + 1 < len(arguments):
            return arguments[position + 1]
    return None


def _describe(suggestion: Suggestion) -> str:
    if suggestion.count is None:
        return suggestion.kind
    return f"{suggestion.kind}, {suggestion.count} picture{'' if suggestion.count == 1 else 's'}"


def _keep_typed(typed: str, text: str) -> str:
    """Return a candidate in the case in which it is typed, so that the shell finds the start."""
    if typed.islower():
        return text.lower()
    is_same = text[: len(typed)].casefold() == typed.casefold()
    return typed + text[len(typed) :] if is_same else text


def _is_harmless(candidate: Candidate) -> bool:
    text = candidate.text.removeprefix("--").removeprefix("-")
    name, separator, value = text.partition("=")
    parts = (name, value) if separator and value else (name,)
    return all(_HARMLESS.fullmatch(part) for part in parts)


# --- shells ---


def _read_line(shell: str, environment: Mapping[str, str]) -> Line | None:
    """Return the line that a shell asks about; None for another shell or another question."""
    if shell == "bash":
        words = environment["COMP_WORDS"].split("\n")
        position = int(environment["COMP_CWORD"])
        return _join_bash_words(words[1:position], words[position] if position < len(words) else "")
    if shell in ("zsh", "fish"):
        text = environment.get(_ARGUMENTS, "")
        arguments = _split(text)[1:]
        is_new = not arguments or (text[-1:].isspace() and _split(text + "x")[-1] == "x")
        current = "" if is_new else arguments.pop()
        return Line(arguments, current)
    return None


def _join_bash_words(words: Sequence[str], current: str) -> Line:
    """Return the line of words that bash has split at signs such as ``=``."""
    arguments: list[str] = []
    is_value = False
    for word in words:
        if word == "=" and arguments:
            arguments[-1] += word
            is_value = True
        elif is_value:
            arguments[-1] += _unquote(word)
            is_value = False
        else:
            arguments.append(_unquote(word))
    before = ""
    if is_value:
        before = arguments.pop()
    elif current == "=" and arguments:
        before, current = f"{arguments.pop()}=", ""
    return Line(arguments, _unquote(current), current[:1] in {"'", '"'}, before)


def _unquote(word: str) -> str:
    return "".join(_split(word)) if any(sign in word for sign in "'\"\\") else word


def _split(text: str) -> list[str]:
    """Return the words of a line, of which the last one may be incomplete."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return words


def _format(shell: str, line: Line, candidates: Sequence[Candidate]) -> str:
    if shell == "zsh":
        items = [
            f'"{one.text}":"{one.description}"' if one.description else f'"{one.text}"'
            for one in candidates
        ]
        joined = "\n".join(items)
        return f"_arguments '*: :(({joined}))'" if items else "_files"
    if shell == "fish":
        return "".join(f"{one.text}\t{one.description}\n" for one in candidates)
    # The words of a query may be several arguments; a value of an option is one.
    is_value = bool(line.before) or (line.arguments and line.arguments[-1].startswith("-"))
    escape = is_value and not line.is_quoted
    texts = [one.text.replace(" ", "\\ ") if escape else one.text for one in candidates]
    return "".join(f"{text}\n" for text in texts)
