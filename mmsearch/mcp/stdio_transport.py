"""Standard input and output transport for an assistant that started this process."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from mmsearch.core.errors import OutputError


def serve_stdio(server: Server[Any]) -> None:
    """Answer requests from standard input on standard output until either is closed.

    Meanwhile, anything else written to standard output goes to standard error.

    Raises:
        OutputError: Standard output cannot be written.
    """

    async def run() -> None:
        async with stdio_server() as (read_stream, write_stream):
            await server.run(read_stream, write_stream, server.create_initialization_options())

    try:
        asyncio.run(run())
    except BaseExceptionGroup as group:
        os_errors, other = group.split(OSError)
        if os_errors is None or other is not None:
            raise
        error = _first_error(os_errors)
        # An assistant closes its pipes when it ends.
        if not isinstance(error, BrokenPipeError):
            raise OutputError.from_os_error(error) from error


def _first_error(group: BaseExceptionGroup[OSError]) -> OSError:
    first = group.exceptions[0]
    return _first_error(first) if isinstance(first, BaseExceptionGroup) else first
