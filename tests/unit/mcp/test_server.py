"""What an assistant is told when something breaks that nobody thought of."""

import asyncio

from mcp import Client

from mmsearch.mcp.server import make_server


class Tools:
    """As many tools as there are, and none works."""

    async def warm_up(self):
        pass

    async def search(self, arguments):
        raise ZeroDivisionError("a secret")

    similar = get = describe = search


def test_a_failure_of_our_own_is_an_error_of_the_tool_and_the_next_call_is_answered():
    async def call_twice():
        async with Client(make_server(Tools())) as client:
            return [await client.call_tool("search_images", {"query": "a"}) for _ in range(2)]

    for result in asyncio.run(call_twice()):
        assert result.is_error
        (block,) = result.content
        assert block.text.startswith("Something unexpected went wrong: ZeroDivisionError. ")
        assert "secret" not in block.text
