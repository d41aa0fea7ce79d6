"""The way in. A query is answered without typer; every other verb is left to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from mmsearch.cli import arguments

_COMPLETION = "_MMSEARCH_COMPLETE"


def main() -> None:
    """Run the command and leave with its exit code."""
    raise SystemExit(run(sys.argv[1:]))


def run(given: Sequence[str]) -> int:
    """Run the command.

    Args:
        given: Its arguments.

    Returns:
        The exit code.
    """
    # A shell that completes a line, and Windows, where typer expands wildcards.
    left_to_typer = _COMPLETION in os.environ or os.name == "nt"
    asked = None if left_to_typer else arguments.read(given)
    from mmsearch.cli.errors import run_command

    if asked is None:
        from mmsearch.cli.app import app

        return run_command(app)
    return run_command(partial(_answer, asked))


def _answer(asked: arguments.Asked) -> None:
    from mmsearch.cli import answering

    if asked.verb == "query":
        answering.query(**asked.values)
    else:
        answering.similar(**asked.values)
