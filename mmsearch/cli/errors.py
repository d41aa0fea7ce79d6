"""Errors -> one sentence on stderr and an exit code: 0, 1, 2, 3, 4 or 130. No traceback."""

from __future__ import annotations

import os
from collections.abc import Callable

from mmsearch.cli.output import warn
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.io_errors import readable_os_error

SKIPPED, UNKNOWN, INTERRUPTED = 3, 4, 130


def run_command(app: Callable[[], object]) -> int:
    """Run a typer application.

    Args:
        app: Called without arguments; reads them from the command line.

    Returns:
        The exit code.
    """
    try:
        app()
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    except KeyboardInterrupt:
        warn("Interrupted.")
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("MMSEARCH_TRACEBACK"):
            raise
        known = error if isinstance(error, MMSearchError) else readable_os_error(error)
        warn(f"Error: {_sentence(known or error)}")
        return known.exit_code if known else 1
    return 0


def _sentence(error: Exception) -> str:
    if isinstance(error, MMSearchError):
        return display_path(str(error))
    return (
        f"something went wrong that should not: {type(error).__name__}: "
        f"{display_path(str(error)[:300])}. 'mmsearch check' says whether the index is "
        "damaged; MMSEARCH_TRACEBACK=1 shows where it happened."
    )
