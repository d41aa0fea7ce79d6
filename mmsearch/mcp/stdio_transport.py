"""An assistant that has started this process asks by its pipes."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from mmsearch.core.errors import OutputError


def answer_pipes(server: Server[Any]) -> None:
    """Answer on standard output what is asked on standard input, until either of them ends.

    Meanwhile whatever else is written to standard output goes to standard error.

    Raises:
        OutputError: Standard output cannot be written.
    """

    async def answer() -> None:
        async with stdio_server() as (asked, answered):
            await server.run(asked, answered, server.create_initialization_options())

    try:
        asyncio.run(answer())
    except BaseExceptionGroup as group:
        failed, other = group.split(OSError)
        if failed is None or other is not None:
            raise
        error = _first(failed)
        # An assistant that ends closes its pipes.
        if not isinstance(error, BrokenPipeError):
            raise OutputError.of(error) from error


def _first(group: BaseExceptionGroup[OSError]) -> OSError:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
