"""Entry point of the ``mmsearch`` command.

``query`` and ``similar`` are parsed without typer; every other command goes through it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from functools import partial
from typing import Any

from mmsearch.cli import fast_args, output, streams
from mmsearch.cli.errors import run_command

_COMPLETION_VARIABLE = "_MMSEARCH_COMPLETE"

LOCAL_ONLY_OPTIONS = frozenset({"batch", "sheet", "open_", "device"})
"""Options of searches that always run in this process, never in a server."""

_LOCAL_PARAMETERS = frozenset({"name", "home", *output.OUTPUT_OPTIONS})
"""Parameters of a search that a server does not get."""


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
    is_completion = _COMPLETION_VARIABLE in os.environ
    if is_completion:
        from mmsearch.cli.completion import complete

        exit_code = complete(os.environ)
        if exit_code is not None:
            return exit_code
    # On Windows typer expands wildcards.
    needs_typer = is_completion or os.name == "nt"
    parsed = None if needs_typer else fast_args.parse_args(argv)
    if parsed is None:
        streams.quiet_libraries()
        from mmsearch.cli.app import app

        if is_completion:
            # Typer completes for this name alone, and prints its help for any other.
            return _complete_by_typer(app)
        return run_command(partial(app, standalone_mode=False))
    return run_command(partial(_run_search_command, parsed))


def _complete_by_typer(app: Callable[..., Any]) -> int:
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):  # noqa: PTH123
        return run_command(partial(app, standalone_mode=False, prog_name="mmsearch"))


def _run_search_command(parsed: fast_args.ParsedCommand) -> None:
    values = parsed.values
    if str(values.get("speech")) == "-" and not (values.keys() & {"text", "batch"}):
        from mmsearch.core.speech import MAX_SOUND_BYTES

        # A server and, if it does not answer, this process need it.
        values["speech"] = sys.stdin.buffer.read(MAX_SOUND_BYTES + 1)
    result = _search_served_index(parsed)
    if result is not None:
        if "heard" in result:
            output.warn_heard(result["heard"])
        output_options = {name: values[name] for name in output.OUTPUT_OPTIONS & values.keys()}
        output.print_search(result, values.get("name", ["default"])[0], **output_options)
        return
    streams.quiet_libraries()
    from mmsearch.cli import search_command

    if parsed.command == "query":
        search_command.query(**values)
    else:
        search_command.similar(**values)


def _search_served_index(parsed: fast_args.ParsedCommand) -> dict[str, Any] | None:
    """Return the result of the index's server; None if the search must run in this process."""
    values = parsed.values
    names = values.get("name", ["default"])
    if LOCAL_ONLY_OPTIONS & values.keys() or "MMSEARCH_TRACEBACK" in os.environ or len(names) > 1:
        return None
    from mmsearch.core.settings import load_settings
    from mmsearch.server import local_socket

    settings = load_settings().with_flags(home=values.get("home"))
    folder = settings.indexes_home() / names[0]
    search = {name: value for name, value in values.items() if name not in _LOCAL_PARAMETERS}
    if isinstance(search.get("speech"), bytes):
        from base64 import b64encode

        search["speech"] = {"base64": b64encode(search["speech"]).decode()}
    return local_socket.search(folder, settings, {"command": parsed.command, **search})
