"""What an assistant may ask, as the schemas of its tools describe it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mmsearch.server.schemas import BoundedText, StrictModel
from mmsearch.server.thumbnails import Size

MAX_HITS = 30
"""A model reads every hit; who wants more of them asks more precisely."""

MAX_LIST_ITEMS = 20


def _as_list(value: Any) -> Any:
    """Models leave the brackets of a single value away, and say null for nothing."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


TextList = Annotated[list[BoundedText], Field(max_length=MAX_LIST_ITEMS), BeforeValidator(_as_list)]
ImageId = Annotated[
    int, Field(ge=1, le=2**63 - 1, description="An id from search_images or similar_images.")
]
Limit = Annotated[int, Field(ge=1, le=MAX_HITS, description="Pictures at most.")]


class SearchArguments(StrictModel):
    """What ``search_images`` takes."""

    query: BoundedText = Field(
        description="What the pictures show, in English.",
        examples=["a windmill", "2:dog + snow", "street -people"],
    )
    limit: Limit = 8
    without: TextList = Field([], description="What the pictures should not show; one thing each.")
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None,
        description="vector: by look; text: by the words of captions, keywords and file names; "
        "hybrid: both. Leave it out unless one of them is meant.",
    )
    after: BoundedText | None = Field(
        None,
        description="Taken on this date or later: 2019, 2019-05 or 2019-05-17.",
        examples=["2019-05"],
    )
    before: BoundedText | None = Field(None, description="Taken earlier than this date.")
    path: TextList = Field(
        [],
        description="Patterns as in .gitignore for the path inside the indexed folder; "
        "one must match.",
        examples=[["holiday/**"]],
    )
    camera: TextList = Field([], description="Parts of a camera's name; one must match.")
    tag: TextList = Field([], description="Keywords of the picture; it has all of them.")
    orientation: Literal["landscape", "portrait", "square"] | None = None


class SimilarArguments(StrictModel):
    """What ``similar_images`` takes."""

    image_id: ImageId
    limit: Limit = 8


class GetImageArguments(StrictModel):
    """What ``get_image`` takes."""

    image_id: ImageId
    size: Size = Field(
        Size.MEDIUM,
        description="Long side: small 160, medium 400, large 1280 pixels. Medium is enough to say "
        "what a picture shows; large for small details and writing.",
    )


class NoArguments(StrictModel):
    """What ``describe_index`` takes."""
