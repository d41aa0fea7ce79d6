"""Check of the names of parameters: unknown ones are errors, so that misspelt ones are noticed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.requests import Request

from mmsearch.server.state import get_worker

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

FORM_FIELDS_KEY = "mmsearch.form_fields"
"""Key of a request's scope with the names of the fields of its form."""


async def reject_unknown_parameters(request: Request) -> None:
    """Refuse a request with a parameter in its URL, or a field of a form, that its route lacks.

    Raises:
        RequestValidationError: There is one.
        UnknownIndexError: The server does not serve the index.
    """
    form_fields = request.scope.get(FORM_FIELDS_KEY, ())
    if not request.scope["query_string"] and not form_fields:
        return
    dependant = request.scope["route"].dependant
    unknown = []
    known = _query_names(dependant)
    if known is not None:
        unknown += [("query", name) for name in request.query_params if name not in known]
    if form_fields:
        names = {field.alias for each in _flatten(dependant) for field in each.body_params}
        unknown += [("body", name) for name in form_fields if name not in names]
    if unknown:
        if "name" in request.path_params:
            # An index that is not served is the first thing to say.
            await get_worker(request, request.path_params["name"])
        raise RequestValidationError(
            [
                {"type": "extra_forbidden", "loc": location, "msg": "", "input": None}
                for location in unknown
            ]
        )


STRICT_PARAMETERS = Depends(reject_unknown_parameters)


def _query_names(dependant: Dependant) -> frozenset[str] | None:
    """Return the names of the parameters of a URL; None if a model of them checks the names."""
    fields = [field for each in _flatten(dependant) for field in each.query_params]
    for field in fields:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return None
    return frozenset(field.alias for field in fields)


def _flatten(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _flatten(each)
