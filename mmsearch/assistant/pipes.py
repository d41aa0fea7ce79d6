"""An assistant that has started this process asks by its pipes."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server


def answer_pipes(server: Server[Any]) -> None:
    """Answer on standard output what is asked on standard input, until that ends.

    Meanwhile whatever else is written to standard output goes to standard error.
    """

    async def answer() -> None:
        async with stdio_server() as (asked, answered):
            await server.run(asked, answered, server.create_initialization_options())

    asyncio.run(answer())
