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
from mmsearch.server.errors import problem_of
from mmsearch.server.routes import search
from mmsearch.server.schemas import SearchBody
from mmsearch.server.state import Service

JSON = b"application/json"


ROUTE = next(
    route
    for route in search.router.routes
    if isinstance(route, APIRoute) and route.endpoint is search.search
)
"""Whose path this takes, and as which it is counted."""


class Quick:
    """Answers searches by text and ids; leaves everything else.

    Args:
        app: Answers the rest.
        service: What answers.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        asked = ROUTE.path_regex.match(scope["path"]) if _is_posted_json(scope) else None
        if asked is None:
            await self._app(scope, receive, send)
            return
        content = await _whole(receive)
        try:
            body = SearchBody.model_validate_json(content)
        except ValidationError:
            await self._app(scope, _again(content, receive), send)
            return
        scope["route"] = ROUTE
        try:
            desk = self._service.desks.desk(asked["name"])
            answer = await search.answer_search(self._service, desk, body)
        except (MMSearchError, OSError, MemoryError) as error:
            await problem_of(error)(scope, receive, send)
        except Exception as error:
            await problem_of(error)(scope, receive, send)
            # The server's log says more.
            raise
        else:
            await _send(answer, send)


def _is_posted_json(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    return any(
        name == b"content-type" and value.split(b";")[0].strip().lower() == JSON
        for name, value in scope["headers"]
    )


async def _whole(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(content: bytes, receive: Receive) -> Receive:
    """Give a body that was read already."""
    left: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def given() -> Message:
        return left.pop() if left else await receive()

    return given


async def _send(answer: dict[str, Any], send: Send) -> None:
    content = to_json(answer)
    headers = [(b"content-length", b"%d" % len(content)), (b"content-type", JSON)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
