"""Routes that read a request body in another way than FastAPI: searches and picture uploads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import HTTPException, UploadFile
from fastapi.routing import APIRoute
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mmsearch.server.parameters import FORM_FIELDS_KEY
from mmsearch.server.schemas import SearchBody
from mmsearch.server.state import get_client_root_path, get_server_state, get_worker

FILE_FIELDS = (b"picture", b"speech")
"""Names of the form fields that contain a file."""


class Upload(UploadFile):
    """An uploaded file, described for both OpenAPI 3.0 and 3.1 clients."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: Mapping[str, Any], handler: Any
    ) -> dict[str, Any]:
        return super().__get_pydantic_json_schema__(core_schema, handler) | {"format": "binary"}


class SearchRoute(APIRoute):
    """A search route that reads a valid JSON body without FastAPI, which costs as much as a search.

    FastAPI reads all other bodies, and reports what is wrong with them.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handle_with_fastapi = super().get_route_handler()

        async def handle(request: Request) -> Response:
            media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
            if media_type != "application/json" or request.scope["query_string"]:
                return await handle_with_fastapi(request)
            try:
                body = SearchBody.model_validate_json(await request.body())
            except ValidationError:
                return await handle_with_fastapi(request)
            except ClientDisconnect:
                # Nobody reads this answer.
                return Response(status_code=400)
            server_state = await get_server_state(request)
            worker = await get_worker(request, request.path_params["name"])
            root_path = await get_client_root_path(request)
            response: Response = await self.endpoint(server_state, worker, body, root_path)
            return response

        return handle


class UploadRoute(APIRoute):
    """A route that accepts a file without a file name in its form (RFC 7578, section 4.2)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_UploadRequest(request.scope, request.receive))

        return handle


class _FormParser(MultiPartParser):
    def on_headers_finished(self) -> None:
        part = self._current_part
        _, options = parse_options_header(part.content_disposition)
        if options.get(b"name") in FILE_FIELDS and b"filename" not in options:
            # Without a file name the parser treats the part as text of at most 1 MB.
            part.content_disposition = (part.content_disposition or b"") + b'; filename="file"'
        super().on_headers_finished()


class _UploadRequest(Request):
    async def form(self, **limits: Any) -> FormData:  # type: ignore[override]
        content_type, _ = parse_options_header(self.headers.get("content-type"))
        if content_type != b"multipart/form-data":
            form = await super().form(**limits)
        else:
            try:
                form = await _FormParser(self.headers, self.stream(), **limits).parse()
            except MultiPartException as error:
                raise HTTPException(400, f"The form cannot be read: {error.message}") from error
        self.scope[FORM_FIELDS_KEY] = tuple(form)
        return form
