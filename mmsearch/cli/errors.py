"""Conversion of errors to one message on stderr and an exit code: 0, 1, 2, 3, 4 or 130.

A traceback is shown only if $MMSEARCH_TRACEBACK is set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmsearch.cli.output import warn
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, to_storage_error

_SYNONYMS = {
    "search": "query",
    "find": "query",
    "add": "index",
    "update": "index",
    "refresh": "index",
    "delete": "remove",
    "rm": "remove",
    "ls": "list",
    "info": "status",
    "verify": "check",
    "move": "set",
}
"""Names that people try, and the commands that they mean."""

EXIT_SKIPPED, EXIT_UNKNOWN, EXIT_INTERRUPTED = 3, 4, 130


def run_command(app: Callable[[], object]) -> int:
    """Run a command and report its errors.

    Args:
        app: The command; may return an exit code, as typer's applications do.

    Returns:
        The exit code.
    """
    try:
        code = app()
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else 0
    except KeyboardInterrupt:
        warn("Interrupted.")
        return EXIT_INTERRUPTED
    except Exception as error:
        # Typer's exception for a question that is answered with no.
        if type(error).__name__ == "Abort":
            warn("Nothing was changed.")
            return 1
        if hasattr(error, "format_message"):
            return _report_usage_error(error)
        if os.environ.get("MMSEARCH_TRACEBACK"):
            raise
        expected_error = error if isinstance(error, MMSearchError) else to_storage_error(error)
        warn(f"Error: {_format_error(expected_error or error)}")
        return expected_error.exit_code if expected_error else 1
    return code if isinstance(code, int) else 0


def _report_usage_error(error: Any) -> int:
    """Report a mistake on the command line.

    Args:
        error: Exception of typer, or of click below it. Typer has no public name for its class.

    Returns:
        The exit code.
    """
    # Without arguments, typer has already printed the help.
    if type(error).__name__ != "NoArgsIsHelpError":
        context = getattr(error, "ctx", None)
        # See `mmsearch.cli.options.Group`.
        command = (
            context.command_path
            if context is not None
            else getattr(error, "command_path", "mmsearch")
        )
        message = display_path(_format_usage_error(error, command)).rstrip(".")
        warn(f"Error: {message}{'' if message.endswith('?') else '.'} See '{command} --help'.")
    exit_code: int = error.exit_code
    return exit_code


def _format_usage_error(error: Any, command: str) -> str:
    sentence = _describe_unknown_name(error, command) or _describe_value(error)
    return sentence or str(error.format_message())


def _describe_unknown_name(error: Any, command: str) -> str | None:
    """Return a sentence about an unknown command, option or argument; None for other errors."""
    commands = getattr(getattr(error, "cmd", None), "commands", {})
    if type(error).__name__ == "NoSuchOption":
        if owner := _find_command_with(error.option_name, commands):
            return f"Write {error.option_name} after the command, as in '{command} {owner}'"
        return f"There is no option {error.option_name}{_suggest(error.possibilities)}"
    if match := re.match(r"No such command '(.*?)'", error.message):
        # Searches, which load this module, do not need it.
        from difflib import get_close_matches

        synonym = _SYNONYMS.get(match[1], "")
        close = [synonym] if synonym in commands else get_close_matches(match[1], commands)
        return f"There is no command {match[1]!r}{_suggest(close)}"
    match = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", error.message)
    return f"Unexpected argument {match[1]!r}" if match else None


def _describe_value(error: Any) -> str | None:
    """Return a sentence about a missing or wrong value; None for other errors."""
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    if kind == "MissingParameter":
        return f"{_parameter_name(parameter)} is missing"
    if kind == "BadOptionUsage":
        verb = "needs a" if "requires" in error.message else "takes no"
        return f"{error.option_name} {verb} value"
    list_errors = getattr(error.__cause__, "errors", None)
    if list_errors is not None:
        from mmsearch.core.validation import format_validation_error

        return "; ".join(
            format_validation_error(_parameter_name(parameter), detail) for detail in list_errors()
        )
    if kind != "BadParameter":
        return None
    message = _rephrase(error.message)
    name = error.param_hint or _parameter_name(parameter)
    return f"{name}{' ' if message.startswith('must ') else ': '}{message}"


def _suggest(names: Iterable[str]) -> str:
    return f". Did you mean {' or '.join(sorted(names))}?" if names else ""


def _find_command_with(option_name: str, commands: Mapping[str, Any]) -> str | None:
    """Return an example of a command with an option; None if no command has it."""
    for name in sorted(commands, key="query".__ne__):
        for parameter in commands[name].params:
            if option_name in parameter.opts:
                value = "" if parameter.is_flag else f" {parameter.metavar or 'VALUE'}"
                return f"{name} {option_name}{value}"
    return None


def _rephrase(message: str) -> str:
    """Return the message of an older typer about a value in the words of a newer one."""
    if match := re.fullmatch(r"('.*') is not a valid (integer|float)(?: range)?\.?", message):
        noun = "whole number" if match[2] == "integer" else "number"
        return f"must be a {noun}, got {match[1]}"
    pattern = r"(\S+) is not in the range (?:(\S+)<=)?x(?:>=(\S+?))?(?:<=(\S+?))?\.?"
    if match := re.fullmatch(pattern, message):
        value, low, high = match[1], match[2] or match[3], match[4]
        is_low = high is None or (low is not None and float(value) < float(low))
        return (
            f"must be at {'least' if is_low else 'most'} {low if is_low else high}, got {value!r}"
        )
    return message


def _parameter_name(parameter: Any) -> str:
    """Return the longest name of an option, or the name of an argument in capitals."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.name).upper()


def _format_error(error: Exception) -> str:
    if isinstance(error, MMSearchError):
        return display_path(error.command_text)
    return (
        f"something unexpected went wrong: {type(error).__name__}: "
        f"{display_path(str(error)[:300])}. "
        "Run 'mmsearch check' to see whether the index is damaged, or set MMSEARCH_TRACEBACK=1 "
        "to see the traceback."
    )
