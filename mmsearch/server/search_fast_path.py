"""Fast path for POST search requests, which skips the layers of FastAPI.

These layers cost as much as everything else that the server adds to a search. The fast path accepts
the same bodies as the route `mmsearch.server.routes.search.search`. It passes invalid requests on
to that route, which reports the error.
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
"""Route that the fast path replaces; metrics count its requests under this route."""


class SearchFastPath:
    """ASGI middleware that answers JSON searches and passes all other requests on.

    Args:
        app: The application that answers all other requests.
        server_state: State of the server, with the indexes to search.
    """

    def __init__(self, app: ASGIApp, server_state: ServerState) -> None:
        self._app = app
        self._server_state = server_state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
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
            # uvicorn logs the traceback.
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
    """Return a receive function that yields a body that has already been read."""
    replayed: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive_replayed() -> Message:
        return replayed.pop() if replayed else await receive()

    return receive_replayed


async def _send_json(answer: dict[str, Any], send: Send) -> None:
    content = to_json(answer)
    headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON_MEDIA_TYPE)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
