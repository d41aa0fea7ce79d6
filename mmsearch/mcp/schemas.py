"""Arguments of the tools; their schemas describe them to the assistant."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mmsearch.server.schemas import BoundedText, StrictModel
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


class SearchArguments(StrictModel):
    """Arguments of ``search_images``."""

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
    after: BoundedText | None = Field(
        None,
        description="Taken on this date or later: 2019, 2019-05 or 2019-05-17.",
        examples=["2019-05"],
    )
    before: BoundedText | None = Field(None, description="Taken before this date.")
    path: TextList = Field(
        [],
        description="Patterns as in .gitignore for the path inside the indexed folder; "
        "one must match.",
        examples=[["holiday/**"]],
    )
    camera: TextList = Field([], description="Parts of a camera's name; one must match.")
    tag: TextList = Field([], description="Keywords that the picture must all have.")
    orientation: Literal["landscape", "portrait", "square"] | None = None


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
