"""Tests of the MCP server when a tool fails unexpectedly."""

import asyncio

from mcp import Client

from mmsearch.mcp.server import make_server


class Tools:
    """Complete set of tools that all fail."""

    async def warm_up(self):
        pass

    async def search(self, arguments):
        raise ZeroDivisionError("a secret")

    hears = True
    search_by_speech = similar = get = facets = duplicates = describe = search


def test_mcp_server_unexpected_tool_error_hides_message_and_server_continues():
    async def call_twice():
        async with Client(make_server(Tools())) as client:
            return [await client.call_tool("search_images", {"query": "a"}) for _ in range(2)]

    for result in asyncio.run(call_twice()):
        assert result.is_error
        (block,) = result.content
        assert block.text.startswith("Something unexpected went wrong: ZeroDivisionError. ")
        assert "secret" not in block.text
