"""Entry point of the ``mmsearch`` command.

``query`` and ``similar`` are parsed without typer; every other command goes through it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mmsearch.cli import fast_args, streams
from mmsearch.cli.errors import run_command

if TYPE_CHECKING:
    from mmsearch.resident.client import OutputChunks

_COMPLETION_VARIABLE = "_MMSEARCH_COMPLETE"

LOCAL_ONLY_OPTIONS = frozenset({"batch", "sheet", "open_", "device"})
"""Options that always run in this process, never in the resident one."""


def main() -> None:
    """Run the command and exit with its exit code."""
    streams.install_streams()
    raise SystemExit(streams.flush_streams(run(sys.argv[1:])))


def run(argv: Sequence[str]) -> int:
    """Run a command.

    Args:
        argv: Command-line arguments, without the program name.

    Returns:
        The exit code.
    """
    # Shell completion needs typer, and on Windows typer expands wildcards.
    needs_typer = _COMPLETION_VARIABLE in os.environ or os.name == "nt"
    parsed = None if needs_typer else fast_args.parse_args(argv)
    if parsed is None:
        streams.quiet_libraries()
        from mmsearch.cli.app import app

        return run_command(partial(app, standalone_mode=False))
    return run_command(partial(_run_search_command, parsed, argv))


def _run_search_command(parsed: fast_args.ParsedCommand, argv: Sequence[str]) -> None:
    chunks = _run_in_resident_process(parsed, argv)
    if chunks is not None:
        for fd, content in chunks:
            target = sys.stdout if fd == 1 else sys.stderr
            target.buffer.write(content)
            target.buffer.flush()
        return
    streams.quiet_libraries()
    from mmsearch.cli import search_command

    if parsed.command == "query":
        search_command.query(**parsed.values)
    else:
        search_command.similar(**parsed.values)


def _run_in_resident_process(
    parsed: fast_args.ParsedCommand, argv: Sequence[str]
) -> OutputChunks | None:
    """Return the output of the resident process; None if the command must run in this one."""
    if LOCAL_ONLY_OPTIONS & parsed.values.keys() or "MMSEARCH_TRACEBACK" in os.environ:
        return None
    from mmsearch.core.settings import load_settings
    from mmsearch.resident.client import forward_command

    settings = load_settings().with_flags(home=parsed.values.get("home"))
    folder = settings.indexes_home() / parsed.values.get("name", "default")
    return forward_command(folder, settings, argv)
