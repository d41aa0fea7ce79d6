"""Model Context Protocol server that offers the tools."""

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
from mmsearch.core.errors import MMSearchError, UnknownNameError, UsageError, to_storage_error
from mmsearch.core.validation import format_validation_errors
from mmsearch.mcp.tools import (
    INSTRUCTIONS,
    ContentBlock,
    ToolResult,
    Tools,
    ToolSpec,
    list_tool_specs,
)

Context = ServerRequestContext[Any]

READ_ONLY_ANNOTATIONS = types.ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def make_server(tools: Tools) -> Server[Any]:
    """Return a protocol server for any transport."""
    tools_by_name = {tool.name: tool for tool in list_tool_specs(tools)}
    tool_list = types.ListToolsResult(tools=[_to_mcp_tool(tool) for tool in tools_by_name.values()])

    async def list_tools(
        context: Context, params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        return tool_list

    async def call_tool(
        context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        try:
            return _to_mcp_result(
                await _call_tool(tools_by_name, params.name, params.arguments or {})
            )
        except MMSearchError as error:
            return _error_result(error.served_text)
        # Report any other error to the assistant, so that the next call is answered.
        except Exception as error:
            if os.environ.get("MMSEARCH_TRACEBACK"):
                raise
            os_error = to_storage_error(error)
            if os_error is not None:
                return _error_result(str(os_error))
            return _error_result(
                f"Something unexpected went wrong: {type(error).__name__}. Run 'mmsearch check' to "
                "see whether the index is damaged, or set MMSEARCH_TRACEBACK=1 to see the "
                "traceback."
            )

    @asynccontextmanager
    async def lifespan(server: Server[Any]) -> AsyncIterator[None]:
        # Keep a reference: the event loop only holds weak references to tasks.
        warmup_task = asyncio.create_task(tools.warm_up())
        yield
        warmup_task.cancel()

    return Server(
        "mmsearch",
        version=__version__,
        title="Picture search",
        instructions=INSTRUCTIONS,
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def _call_tool(
    tools_by_name: dict[str, ToolSpec], name: str, arguments: dict[str, Any]
) -> ToolResult:
    tool = tools_by_name.get(name)
    if tool is None:
        raise UnknownNameError(f"There is no tool {name!r}.", f"Known: {', '.join(tools_by_name)}.")
    try:
        parsed = tool.arguments_model.model_validate(arguments)
    except ValidationError as error:
        raise UsageError(
            f"{format_validation_errors(error.errors(), tool.arguments_model.model_fields)}.",
            f"The tool {name} takes {', '.join(tool.arguments_model.model_fields)}.",
        ) from error
    return await tool.handler(parsed)


def _to_mcp_tool(tool: ToolSpec) -> types.Tool:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.arguments_model.model_json_schema(),
        output_schema=tool.result_model.model_json_schema(mode="serialization"),
        annotations=READ_ONLY_ANNOTATIONS,
    )


def _to_mcp_result(result: ToolResult) -> types.CallToolResult:
    return types.CallToolResult(
        content=[_to_mcp_content(block) for block in result.blocks],
        structured_content=result.structured.model_dump(mode="json"),
    )


def _to_mcp_content(block: ContentBlock) -> types.TextContent | types.ImageContent:
    if isinstance(block, str):
        return types.TextContent(text=block)
    return types.ImageContent(data=base64.b64encode(block).decode(), mime_type="image/webp")


def _error_result(message: str) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(text=display_path(message))], is_error=True
    )
