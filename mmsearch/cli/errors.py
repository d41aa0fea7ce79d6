"""Conversion of errors to one message on stderr and an exit code: 0, 1, 2, 3, 4 or 130.

A traceback is shown only if $MMSEARCH_TRACEBACK is set.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mmsearch.cli.output import warn
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, to_storage_error

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
        command = context.command_path if context is not None else "mmsearch"
        message = display_path(_format_usage_error(error)).rstrip(".")
        warn(f"Error: {message}{'' if message.endswith('?') else '.'} See '{command} --help'.")
    exit_code: int = error.exit_code
    return exit_code


def _format_usage_error(error: Any) -> str:
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    if kind == "MissingParameter":
        return f"{_parameter_name(parameter)} is missing"
    if kind == "NoSuchOption":
        suggestions = error.possibilities
        suggestion = f". Did you mean {' or '.join(sorted(suggestions))}?" if suggestions else ""
        return f"There is no option {error.option_name}{suggestion}"
    list_errors = getattr(error.__cause__, "errors", None)
    if list_errors is not None:
        from mmsearch.core.validation import format_validation_error

        return "; ".join(
            format_validation_error(_parameter_name(parameter), detail) for detail in list_errors()
        )
    if kind == "BadParameter":
        name = error.param_hint or _parameter_name(parameter)
        return f"{name}{' ' if error.message.startswith('must ') else ': '}{error.message}"
    message: str = error.format_message()
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
