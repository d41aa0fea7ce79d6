"""The way in. A query is answered without typer; every other verb is left to it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mmsearch.cli import fast_args, streams
from mmsearch.cli.errors import run_command

if TYPE_CHECKING:
    from mmsearch.resident.client import Printed

_COMPLETION = "_MMSEARCH_COMPLETE"

DONE_HERE = frozenset({"batch", "sheet", "open_", "device"})
"""What a process that stays does not do for others."""


def main() -> None:
    """Run the command and leave with its exit code."""
    streams.prepare()
    raise SystemExit(streams.finish(run(sys.argv[1:])))


def run(given: Sequence[str]) -> int:
    """Run the command.

    Args:
        given: Its arguments.

    Returns:
        The exit code.
    """
    # A shell that completes a line, and Windows, where typer expands wildcards.
    left_to_typer = _COMPLETION in os.environ or os.name == "nt"
    asked = None if left_to_typer else fast_args.read(given)
    if asked is None:
        streams.quiet_libraries()
        from mmsearch.cli.app import app

        return run_command(partial(app, standalone_mode=False))
    return run_command(partial(_answer, asked, given))


def _answer(asked: fast_args.Asked, given: Sequence[str]) -> None:
    printed = _asked_elsewhere(asked, given)
    if printed is not None:
        for stream, content in printed:
            target = sys.stdout if stream == 1 else sys.stderr
            target.buffer.write(content)
            target.buffer.flush()
        return
    streams.quiet_libraries()
    from mmsearch.cli import search_command

    if asked.verb == "query":
        search_command.query(**asked.values)
    else:
        search_command.similar(**asked.values)


def _asked_elsewhere(asked: fast_args.Asked, given: Sequence[str]) -> Printed | None:
    """What a process prints that keeps the index open; None: there is none."""
    if DONE_HERE & asked.values.keys() or "MMSEARCH_TRACEBACK" in os.environ:
        return None
    from mmsearch.core.settings import load_settings
    from mmsearch.resident.client import ask

    settings = load_settings().with_flags(home=asked.values.get("home"))
    folder = settings.indexes_home() / asked.values.get("name", "default")
    return ask(folder, settings, given)
