"""The search that programs ask, answered before the layers of FastAPI.

Those cost as much as everything else that a server adds to a search. What comes here is what the
route `mmsearch.server.routes.search.search` takes, as it is described there; whatever is not as it
should be is left to that route, which says so.
"""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmsearch.core.errors import MMSearchError
from mmsearch.server.errors import response_for_error
from mmsearch.server.routes import search
from mmsearch.server.schemas import SearchBody
from mmsearch.server.state import ServerState

JSON_MEDIA_TYPE = b"application/json"


SEARCH_ROUTE = next(
    route
    for route in search.router.routes
    if isinstance(route, APIRoute) and route.endpoint is search.search
)
"""Whose path this takes, and as which it is counted."""


class SearchFastPath:
    """Answers searches by text and ids; leaves everything else.

    Args:
        app: Answers the rest.
        server_state: What answers.
    """

    def __init__(self, app: ASGIApp, server_state: ServerState) -> None:
        self._app = app
        self._server_state = server_state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        path_match = SEARCH_ROUTE.path_regex.match(scope["path"]) if _is_json_post(scope) else None
        if path_match is None:
            await self._app(scope, receive, send)
            return
        content = await _read_body(receive)
        try:
            body = SearchBody.model_validate_json(content)
        except ValidationError:
            await self._app(scope, _replay_body(content, receive), send)
            return
        scope["route"] = SEARCH_ROUTE
        try:
            worker = self._server_state.index_pool.worker(path_match["name"])
            answer = await search.run_search(self._server_state, worker, body)
        except (MMSearchError, OSError, MemoryError) as error:
            await response_for_error(error)(scope, receive, send)
        except Exception as error:
            await response_for_error(error)(scope, receive, send)
            # The server's log says more.
            raise
        else:
            await _send_json(answer, send)


def _is_json_post(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return any(
        name == b"content-type" and value.split(b";")[0].strip().lower() == JSON_MEDIA_TYPE
        for name, value in scope["headers"]
    )


async def _read_body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def _replay_body(content: bytes, receive: Receive) -> Receive:
    """Give a body that was read already."""
    replayed: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_replayed() -> Message:
        return replayed.pop() if replayed else await receive()

    return receive_replayed


async def _send_json(answer: dict[str, Any], send: Send) -> None:
    content = to_json(answer)
    headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON_MEDIA_TYPE)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
