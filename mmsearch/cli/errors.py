"""Errors -> one sentence on stderr and an exit code: 0, 1, 2, 3, 4 or 130. No traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mmsearch.cli.output import warn
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.io_errors import readable_os_error

SKIPPED, UNKNOWN, INTERRUPTED = 3, 4, 130


def run_command(app: Callable[[], object]) -> int:
    """Run a command.

    Args:
        app: Does its work; may return an exit code, as typer's applications do.

    Returns:
        The exit code.
    """
    try:
        code = app()
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    except KeyboardInterrupt:
        warn("Interrupted.")
        return INTERRUPTED
    except Exception as error:
        if hasattr(error, "format_message"):
            return _refuse_arguments(error)
        if os.environ.get("MMSEARCH_TRACEBACK"):
            raise
        known = error if isinstance(error, MMSearchError) else readable_os_error(error)
        warn(f"Error: {_sentence(known or error)}")
        return known.exit_code if known else 1
    return code if isinstance(code, int) else 0


def _refuse_arguments(error: Any) -> int:
    """Say what is wrong with the command line.

    Args:
        error: Of typer, or of the click below it. Typer gives its class no public name.

    Returns:
        The exit code.
    """
    # Without arguments, help was printed.
    if type(error).__name__ != "NoArgsIsHelpError":
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "mmsearch"
        said = display_path(_arguments_error(error)).rstrip(".")
        warn(f"Error: {said}{'' if said.endswith('?') else '.'} See '{command} --help'.")
    exit_code: int = error.exit_code
    return exit_code


def _arguments_error(error: Any) -> str:
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    if kind == "MissingParameter":
        return f"{_name_of(parameter)} is missing"
    if kind == "NoSuchOption":
        near = error.possibilities
        suggestion = f". Did you mean {' or '.join(sorted(near))}?" if near else ""
        return f"There is no option {error.option_name}{suggestion}"
    wrong = getattr(error.__cause__, "errors", None)
    if wrong is not None:
        from mmsearch.core.validation import validation_sentence

        return "; ".join(validation_sentence(_name_of(parameter), each) for each in wrong())
    if kind == "BadParameter":
        name = error.param_hint or _name_of(parameter)
        return f"{name}{' ' if error.message.startswith('must ') else ': '}{error.message}"
    sentence: str = error.format_message()
    return sentence


def _name_of(parameter: Any) -> str:
    """Return the longest name of an option; that of an argument in capitals."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.name).upper()


def _sentence(error: Exception) -> str:
    if isinstance(error, MMSearchError):
        return display_path(str(error))
    return (
        f"something went wrong that should not: {type(error).__name__}: "
        f"{display_path(str(error)[:300])}. 'mmsearch check' says whether the index is "
        "damaged; MMSEARCH_TRACEBACK=1 shows where it happened."
    )
