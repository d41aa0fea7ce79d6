"""Connections to a server, which send the requests of a client and pause between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mmsearch.client._errors import Response
from mmsearch.client._flows import BaseClient, Pause, RequestFlow, Result
from mmsearch.client._requests import Endpoint, Request
from mmsearch.client._transport import (
    check_transport,
    client_options,
    closed_error,
    import_httpx,
    map_transport_errors,
    request_options,
    to_response,
)

if TYPE_CHECKING:
    import httpx


class Connection(BaseClient):
    """The base of `mmsearch.Client` that sends its requests."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        index: str = "default",
        timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(Endpoint.parse(url, index, token, timeout_s))
        check_transport(transport, "handle_request")
        with map_transport_errors(self._endpoint):
            self._http: httpx.Client = import_httpx().Client(
                transport=transport, **client_options(self._endpoint)
            )

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: Request) -> Response:
        with map_transport_errors(self._endpoint):
            options = request_options(self._endpoint, request)
            response = self._http.request(request.method, request.path, **options)
            return to_response(response, response.content)

    def _run(
        self, flow: RequestFlow[Result], send: Callable[[Request], Response] | None = None
    ) -> Result:
        if self._http.is_closed:
            raise closed_error()
        response: Response | None = None
        while True:
            try:
                action = flow.send(response)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(action, Pause):
                time.sleep(action.seconds)
                response = None
            else:
                response = (send or self._send)(action)


class AsyncConnection(BaseClient):
    """The base of `mmsearch.AsyncClient` that sends its requests."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        index: str = "default",
        timeout_s: float = 60.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(Endpoint.parse(url, index, token, timeout_s))
        check_transport(transport, "handle_async_request")
        with map_transport_errors(self._endpoint):
            self._http: httpx.AsyncClient = import_httpx().AsyncClient(
                transport=transport, **client_options(self._endpoint)
            )

    async def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _send(self, request: Request) -> Response:
        with map_transport_errors(self._endpoint):
            options = request_options(self._endpoint, request)
            response = await self._http.request(request.method, request.path, **options)
            return to_response(response, response.content)

    async def _run(
        self,
        flow: RequestFlow[Result],
        send: Callable[[Request], Awaitable[Response]] | None = None,
    ) -> Result:
        if self._http.is_closed:
            raise closed_error()
        response: Response | None = None
        while True:
            try:
                action = flow.send(response)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(action, Pause):
                await asyncio.sleep(action.seconds)
                response = None
            else:
                response = await (send or self._send)(action)
