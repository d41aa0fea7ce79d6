"""Schemas of requests to several indexes, which answer as one."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from mmsearch.server.schemas import (
    CLICKS_LIMIT,
    BoundedText,
    FacetsBody,
    FacetsParams,
    SearchBody,
    SearchParams,
    to_body_values,
)

IndexNames = Annotated[
    list[BoundedText],
    Field(
        max_length=100,
        description="Names of the indexes, whose models must be the same; default: all served ones."
        " Equal hits are listed in their order.",
    ),
]


def _to_text(value: object) -> object:
    """Return a number as text: which index it is in is checked with the names of the indexes."""
    return str(value) if isinstance(value, int) else value


FederatedLikeList = Annotated[
    list[Annotated[BoundedText, BeforeValidator(_to_text)]],
    Field(
        max_length=CLICKS_LIMIT,
        description="Pictures that hits should look like, each as name of its index, colon, id.",
        examples=[["default:12"]],
    ),
]
FederatedUnlikeList = Annotated[
    list[Annotated[BoundedText, BeforeValidator(_to_text)]],
    Field(
        max_length=CLICKS_LIMIT,
        description="Hits that are wrong, each as name of its index, colon, id.",
        examples=[["default:13"]],
    ),
]


class FederatedSearchBody(SearchBody):
    """A query in several indexes, which answer as one."""

    indexes: IndexNames = Field([])
    like: FederatedLikeList = Field([])  # type: ignore[assignment]
    unlike: FederatedUnlikeList = Field([])  # type: ignore[assignment]


class FederatedSearchParams(SearchParams):
    """A query in several indexes, as URL parameters."""

    indexes: IndexNames = Field([])
    like: FederatedLikeList = Field([])  # type: ignore[assignment]
    unlike: FederatedUnlikeList = Field([])  # type: ignore[assignment]

    def to_search_body(self) -> FederatedSearchBody:
        """Return the same search as a request body."""
        return FederatedSearchBody.model_validate(to_body_values(self))


class FederatedFacetsBody(FacetsBody):
    """A query whose pictures in several indexes are counted."""

    indexes: IndexNames = Field([])
    like: FederatedLikeList = Field([])  # type: ignore[assignment]
    unlike: FederatedUnlikeList = Field([])  # type: ignore[assignment]


class FederatedFacetsParams(FacetsParams):
    """A query whose pictures in several indexes are counted, as URL parameters."""

    indexes: IndexNames = Field([])
    like: FederatedLikeList = Field([])  # type: ignore[assignment]
    unlike: FederatedUnlikeList = Field([])  # type: ignore[assignment]

    def to_facets_body(self) -> FederatedFacetsBody:
        """Return the same request as a body."""
        return FederatedFacetsBody.model_validate(to_body_values(self))
