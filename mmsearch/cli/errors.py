"""Errors -> one sentence on stderr and an exit code: 0, 1, 2, 3 or 130. No traceback."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from mmsearch.cli.output import warn
from mmsearch.core.errors import MMSearchError

INTERRUPTED = 130


def run_command(app: Callable[[], object]) -> int:
    """Run a typer application.

    Args:
        app: Called without arguments; reads them from the command line.

    Returns:
        The exit code.
    """
    try:
        app()
    except MMSearchError as error:
        warn(f"Error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        warn("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe has seen enough; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        warn(f"Error: {_sentence(error)}")
        return 1
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else 0
    return 0


def _sentence(error: OSError) -> str:
    where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return (
            f"The disk is full{where}. What was committed is safe; free some space and run again."
        )
    return f"{error.strerror or error}{where}."
