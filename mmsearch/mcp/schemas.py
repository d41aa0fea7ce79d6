"""Arguments of the tools; their schemas describe them to the assistant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, create_model

from mmsearch.server.schemas import BoundedText, StrictModel, filter_fields
from mmsearch.server.thumbnails import Size

MAX_HITS = 30
"""Maximum hits per answer: a model reads every hit, and can refine its query for others."""

MAX_LIST_ITEMS = 20


def _as_list(value: Any) -> Any:
    """Return a list: models omit the brackets of a single value, and send null for no value."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


TextList = Annotated[list[BoundedText], Field(max_length=MAX_LIST_ITEMS), BeforeValidator(_as_list)]
ImageId = Annotated[
    int, Field(ge=1, le=2**63 - 1, description="An id from search_images or similar_images.")
]
Limit = Annotated[int, Field(ge=1, le=MAX_HITS, description="Maximum number of pictures.")]


class SearchOptions(StrictModel):
    """Arguments of ``search_images`` except filters."""

    query: BoundedText = Field(
        description="What the pictures show, in English.",
        examples=["a windmill", "2:dog + snow", "street -people"],
    )
    limit: Limit = 8
    without: TextList = Field(
        [], description="What the pictures should not show; one thing per entry."
    )
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None,
        description="vector: by look; text: by the words of captions, keywords and file names; "
        "hybrid: both. Leave it out unless one of them is meant.",
    )


if TYPE_CHECKING:
    SearchArguments = SearchOptions
else:
    SearchArguments = create_model(
        "SearchArguments",
        __base__=SearchOptions,
        __doc__="Arguments of ``search_images``.",
        **filter_fields(Annotated[list[BoundedText], BeforeValidator(_as_list)], MAX_LIST_ITEMS),
    )


class SimilarArguments(StrictModel):
    """Arguments of ``similar_images``."""

    image_id: ImageId
    limit: Limit = 8


class GetImageArguments(StrictModel):
    """Arguments of ``get_image``."""

    image_id: ImageId
    size: Size = Field(
        Size.MEDIUM,
        description="Long side: small 160, medium 400, large 1280 pixels. Medium is enough to say "
        "what a picture shows; large for small details and writing.",
    )


class NoArguments(StrictModel):
    """The empty arguments of ``describe_index``."""
