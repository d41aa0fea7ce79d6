"""The tools as the Model Context Protocol says them."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from pydantic import ValidationError

from mmsearch import __version__
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError, UnknownNameError, UsageError
from mmsearch.core.io_errors import readable_os_error
from mmsearch.core.validation import validation_sentences
from mmsearch.mcp.tool_specs import INSTRUCTIONS, Tool, offered
from mmsearch.mcp.tools import Answer, Part, Tools

Context = ServerRequestContext[Any]

READS_ONLY = types.ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def make_server(tools: Tools) -> Server[Any]:
    """A server of the protocol, for any transport."""
    known = {tool.name: tool for tool in offered(tools)}
    listed = types.ListToolsResult(tools=[_described(tool) for tool in known.values()])

    async def list_tools(
        context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return listed

    async def call_tool(
        context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        try:
            return _result(await _answer(known, params.name, params.arguments or {}))
        except MMSearchError as error:
            return _failure(str(error))
        # Whatever it is, the assistant reads of it, and the next call is answered.
        except Exception as error:
            if os.environ.get("MMSEARCH_TRACEBACK"):
                raise
            refused = readable_os_error(error)
            if refused is not None:
                return _failure(str(refused))
            return _failure(
                f"Something went wrong that should not: {type(error).__name__}. 'mmsearch check' "
                "says whether the index is damaged; MMSEARCH_TRACEBACK=1 shows where it happened."
            )

    @asynccontextmanager
    async def warmed(server: Server[Any]) -> AsyncIterator[None]:
        # Kept, for the loop itself forgets a task that nobody waits for.
        warming = asyncio.create_task(tools.warm())
        yield
        warming.cancel()

    return Server(
        "mmsearch",
        version=__version__,
        title="Picture search",
        instructions=INSTRUCTIONS,
        lifespan=warmed,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _answer(known: dict[str, Tool], name: str, arguments: dict[str, Any]) -> Answer:
    tool = known.get(name)
    if tool is None:
        raise UnknownNameError(f"There is no tool {name!r}.", f"Known: {', '.join(known)}.")
    try:
        asked = tool.arguments.model_validate(arguments)
    except ValidationError as error:
        raise UsageError(
            f"{validation_sentences(error.errors())}.",
            f"The tool {name} takes {', '.join(tool.arguments.model_fields)}.",
        ) from error
    return await tool.work(asked)


def _described(tool: Tool) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments.model_json_schema(),
        output_schema=tool.facts.model_json_schema(mode="serialization"),
        annotations=READS_ONLY,
    )


def _result(answer: Answer) -> types.CallToolResult:
    return types.CallToolResult(
        content=[_block(part) for part in answer.parts],
        structured_content=answer.facts.model_dump(mode="json"),
    )


def _block(part: Part) -> types.TextContent | types.ImageContent:
    if isinstance(part, str):
        return types.TextContent(text=part)
    return types.ImageContent(data=base64.b64encode(part).decode(), mime_type="image/webp")


def _failure(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(text=display_path(sentence))], is_error=True
    )
