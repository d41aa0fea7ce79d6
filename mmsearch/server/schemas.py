"""Schemas of HTTP requests and answers, which also generate the OpenAPI document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mmsearch.core.facets import DEFAULT_FACET_VALUES, FACET_FIELDS, MAX_FACET_VALUES
from mmsearch.core.filter_parser import MAX_NUMBERS
from mmsearch.core.filters import FILTERS
from mmsearch.core.query import PAGE_LIMIT, TEXTS_LIMIT
from mmsearch.core.results import SearchPage
from mmsearch.core.sorting import SORTS
from mmsearch.core.suggestions import Suggestion

TEXT_LIMIT = 2000
"""Maximum number of characters in a query."""

URLS_LIMIT = 4
"""Maximum number of pictures fetched for a query."""

CLICKS_LIMIT = 100
"""Maximum number of hits that a request says to be right, and of those to be wrong."""

KEYS_LIMIT = 10_000
"""Maximum number of pictures that one request changes or deletes."""

BoundedText = Annotated[str, Field(max_length=TEXT_LIMIT)]
UrlList = Annotated[
    list[BoundedText],
    Field(
        max_length=URLS_LIMIT,
        description="URLs of pictures that hits should look like, if the server fetches them.",
    ),
]


def _reject_bool(value: object) -> object:
    """Return a value that is not true or false, which pydantic takes for 1 and 0."""
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


PictureId = Annotated[int, BeforeValidator(_reject_bool)]
LikeList = Annotated[
    list[PictureId],
    Field(
        max_length=CLICKS_LIMIT,
        description="Ids of pictures that hits should look like, such as hits that are right.",
    ),
]
UnlikeList = Annotated[
    list[PictureId],
    Field(
        max_length=CLICKS_LIMIT,
        description="Ids of hits that are wrong: they are left out, and pictures like them rank"
        " lower.",
    ),
]

if TYPE_CHECKING:
    SortOrder = str
else:
    SortOrder = Annotated[
        Literal[tuple(SORTS)],
        Field(description="Order of the hits of a page, which are found by their scores."),
    ]


FoldOption = Annotated[
    bool,
    Field(
        description="Return one of near duplicates and of a burst, with the number of the others as"
        " `folded`; false returns each picture."
    ),
]


LiteralOption = Annotated[
    bool,
    Field(
        description="Read no dates, people and places in the query as filters; what is read is in "
        "`understood`."
    ),
]


class StrictModel(BaseModel):
    """Base class of request bodies; unknown members are errors, so misspelt ones are noticed."""

    model_config = ConfigDict(extra="forbid")


def filter_fields(text_list: Any, max_length: int) -> dict[str, Any]:
    """Return the fields of a model with all filters, as `create_model` takes them.

    Args:
        text_list: Type of a filter that may have several values.
        max_length: Maximum number of these values.
    """
    model_fields: dict[str, Any] = {}
    one_of: Any = Literal
    for spec in FILTERS:
        example: Any = [spec.example] if spec.multiple else spec.example
        about: dict[str, Any] = {
            "description": spec.description,
            "examples": None if spec.example is None else [example],
        }
        if spec.multiple:
            model_fields[spec.name] = text_list, Field([], max_length=max_length, **about)
        elif spec.kind in MAX_NUMBERS:
            maximum = MAX_NUMBERS[spec.kind]
            model_fields[spec.name] = int | None, Field(None, ge=0, le=maximum, **about)
        elif spec.kind == "flag":
            model_fields[spec.name] = bool, Field(default=False, **about)
        else:
            value_type = one_of[spec.choices] if spec.choices else BoundedText
            model_fields[spec.name] = value_type | None, Field(None, **about)
    return model_fields


if TYPE_CHECKING:
    FilterParams = StrictModel
else:
    FilterParams = create_model(
        "FilterParams", __base__=StrictModel, **filter_fields(list[BoundedText], 50)
    )

METADATA_PREFIX = "metadata."


class FilterBody(FilterParams):
    """Filters of a search, the same as the options of `mmsearch query`."""

    metadata: dict[str, Any] = Field(
        {},
        max_length=20,
        description="Filters on metadata: a value, a list of values, or an object with `lt`, `lte`,"
        " `gt`, `gte`, `ne`, `in` or `contains`, for each member. `metadata.NAME` as a filter means"
        " the same.",
        examples=[{"price": {"lt": 100}, "shop": "Rome"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_metadata(cls, values: Any) -> Any:
        """Return the values with the filters ``metadata.NAME`` as members of ``metadata``."""
        if not isinstance(values, dict) or not isinstance(values.get("metadata", {}), dict):
            return values
        lifted = {
            name.removeprefix(METADATA_PREFIX): value
            for name, value in values.items()
            if isinstance(name, str) and name.startswith(METADATA_PREFIX)
        }
        if not lifted:
            return values
        others = {name: v for name, v in values.items() if not name.startswith(METADATA_PREFIX)}
        return others | {"metadata": {**values.get("metadata", {}), **lifted}}


class QueryBody(StrictModel):
    """A query, as for `mmsearch query`."""

    query: BoundedText = Field(
        "", description="A query in the query language; empty to search by pictures only."
    )
    without: list[BoundedText] = Field(
        [],
        alias="not",
        max_length=20,
        description="Descriptions of what hits should not look like.",
    )
    like: LikeList = []
    unlike: UnlikeList = []
    like_url: UrlList = []
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None, description="Default: hybrid if the index has texts."
    )
    blend: BoundedText | None = Field(
        None, description="Method that merges both result lists in hybrid mode."
    )
    prompts: list[BoundedText] | None = Field(
        None, min_length=1, max_length=20, description="Phrasings of a text, each with one {}."
    )
    filters: FilterBody = cast("FilterBody", FilterBody.model_construct())
    literal: LiteralOption = False
    literal_words: list[BoundedText] = Field(
        [], max_length=20, description="Words or phrases of the query that are not read."
    )


class SearchBody(QueryBody):
    """A query, as for `mmsearch query`, and the page of results to return."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"query": "a windmill", "limit": 5},
                {"query": "2:dog + snow", "not": ["people"], "filters": {"after": "2015"}},
            ]
        },
    )

    sort: SortOrder = "score"
    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Maximum number of hits per page.")
    cursor: BoundedText | None = Field(
        None, description="The next_cursor of an earlier answer, for its next page."
    )
    fold: FoldOption = True
    min_score: float | None = Field(None, allow_inf_nan=False)
    min_confidence: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    explain: bool = Field(
        True, description="Return the confidence of each hit and the text that matches best."
    )


class SearchParams(FilterParams):
    """A query with filters, as URL parameters."""

    q: BoundedText = Field(
        "", description="A query in the query language.", examples=["a windmill"]
    )
    without: list[BoundedText] = Field([], alias="not", max_length=20)
    like: LikeList = Field([])
    unlike: UnlikeList = Field([])
    like_url: UrlList = Field([])
    sort: SortOrder = "score"
    limit: int = Field(20, ge=1, le=PAGE_LIMIT)
    cursor: BoundedText | None = None
    mode: Literal["vector", "text", "hybrid"] | None = None
    fold: FoldOption = True
    literal: LiteralOption = False
    literal_words: list[BoundedText] = Field([], max_length=20)

    def to_search_body(self) -> SearchBody:
        """Return the same search as a request body."""
        return SearchBody.model_validate(to_body_values(self))


def to_body_values(params: FilterParams) -> dict[str, Any]:
    """Return the members of the request body that says the same as URL parameters."""
    values = params.model_dump(by_alias=True)
    filters = {name: values.pop(name) for name in FilterParams.model_fields}
    return {"query": values.pop("q"), "filters": filters, **values}


if TYPE_CHECKING:
    FacetField = str
else:
    FacetField = Literal[tuple(FACET_FIELDS)]
FacetFields = Annotated[
    list[FacetField] | None,
    Field(
        min_length=1,
        max_length=len(FACET_FIELDS),
        description="Fields to count by; default: all.",
    ),
]


def split_at_commas(values: Any) -> Any:
    """Return the values of a repeated URL parameter, each of which may be several with commas."""
    if not isinstance(values, list):
        return values
    return [part.strip() for value in values for part in str(value).split(",")]


FacetLimit = Annotated[
    int, Field(ge=1, le=MAX_FACET_VALUES, description="Maximum number of values of a field.")
]
FoldedCounts = Annotated[
    bool,
    Field(description="Count near duplicates and the pictures of a burst as one picture."),
]


class FacetsBody(QueryBody):
    """A query whose pictures are counted; without one, all that pass the filters are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"fields": ["year", "camera"]},
                {"query": "a windmill", "fields": ["place"], "filters": {"after": "2015"}},
            ]
        },
    )

    fields: FacetFields = None
    limit: FacetLimit = DEFAULT_FACET_VALUES
    fold: FoldedCounts = True


class FacetsParams(FilterParams):
    """A query whose pictures are counted, as URL parameters."""

    q: BoundedText = Field(
        "", description="A query in the query language; may be empty.", examples=["a windmill"]
    )
    without: list[BoundedText] = Field([], alias="not", max_length=20)
    like: LikeList = Field([])
    unlike: UnlikeList = Field([])
    like_url: UrlList = Field([])
    mode: Literal["vector", "text", "hybrid"] | None = None
    fields: Annotated[FacetFields, BeforeValidator(split_at_commas)] = Field(
        None,
        description="Fields to count by, such as ``year,place``, or one for each parameter of the "
        "name; default: all.",
    )
    limit: FacetLimit = Field(DEFAULT_FACET_VALUES)
    fold: FoldedCounts = Field(default=True)
    literal: LiteralOption = False
    literal_words: list[BoundedText] = Field([], max_length=20)

    def to_facets_body(self) -> FacetsBody:
        """Return the same request as a body."""
        return FacetsBody.model_validate(to_body_values(self))


class BatchBody(StrictModel):
    """A batch of searches."""

    searches: list[SearchBody] = Field(min_length=1, max_length=TEXTS_LIMIT)


class TextsBody(StrictModel):
    """Texts to encode."""

    texts: list[BoundedText] = Field(
        min_length=1, max_length=TEXTS_LIMIT, examples=[["a windmill"]]
    )


class JobBody(StrictModel):
    """An indexing job for sources of the index."""

    source: BoundedText | None = Field(
        default=None,
        description="Name of a source of the index, such as a folder or a table; null for all.",
    )
    retry_failed: bool = False
    verify: bool = Field(
        default=False,
        description="Read every file of folders, to find changes that kept its size and times.",
    )


PictureTexts = Annotated[
    str | list[str] | dict[str, str | list[str]],
    Field(
        description="A caption, a list of captions, or texts by kind.",
        examples=[{"title": "Sailing boat", "keywords": ["boat", "toy"]}],
    ),
]
PictureMetadata = Annotated[
    dict[str, Any],
    Field(
        description="Values to filter by, such as `metadata.price < 100`; hits return them.",
        examples=[{"price": 90, "colours": ["red"]}],
    ),
]
PictureKey = Annotated[str, Field(min_length=1, description="Id that you give the picture.")]


class RecordBody(StrictModel):
    """A picture to add, by its URL or its content, with texts and metadata."""

    url: BoundedText | None = Field(
        None, description="URL of the picture, if the server fetches them."
    )
    data: str | None = Field(None, description="Content of the file of the picture, in base64.")
    texts: PictureTexts | None = None
    metadata: PictureMetadata | None = None


class NewRecordBody(RecordBody):
    """A picture to add, with its key."""

    key: PictureKey | None = Field(None, description="Default: the SHA-256 of the content.")


class FormRecordBody(StrictModel):
    """Texts and metadata of an uploaded picture."""

    texts: PictureTexts | None = None
    metadata: PictureMetadata | None = None


class PatchBody(StrictModel):
    """New texts or metadata of a picture; members that are left out keep what is there."""

    texts: PictureTexts | None = Field(None, description="New texts; null removes all texts.")
    metadata: PictureMetadata | None = Field(
        None, description="New metadata, as a whole; null removes it."
    )


class KeyedPatchBody(PatchBody):
    """New texts or metadata of a picture, with its key."""

    key: PictureKey


class PatchesBody(StrictModel):
    """New texts or metadata of several pictures."""

    items: list[KeyedPatchBody] = Field(min_length=1, max_length=KEYS_LIMIT)


class KeysBody(StrictModel):
    """Keys of pictures."""

    keys: list[PictureKey] = Field(min_length=1, max_length=KEYS_LIMIT)


REQUEST_FIELDS = frozenset(
    field.alias or name
    for model in (
        SearchBody,
        SearchParams,
        FilterBody,
        FacetsBody,
        BatchBody,
        TextsBody,
        JobBody,
        NewRecordBody,
        PatchesBody,
        KeyedPatchBody,
        KeysBody,
    )
    for name, field in model.model_fields.items()
) | {"indexes"}
"""Names of all members of requests and their parameters."""


class Problem(BaseModel):
    """An error as a problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class BatchAnswer(BaseModel):
    """An answer or a problem for each search, in the order of the request."""

    answers: list[SearchPage | Problem]


class UpdatedAnswer(BaseModel):
    """Number of pictures whose texts or metadata were replaced."""

    updated: int


class EmbeddingsAnswer(BaseModel):
    """Unit vectors in the embedding space of the index's encoder."""

    encoder: str
    fingerprint: str = Field(
        description="Encoder fingerprint; only vectors with the same one are comparable."
    )
    dim: int
    embeddings: list[list[float]]


class SuggestionsAnswer(BaseModel):
    """Suggestions, the most useful ones first."""

    suggestions: list[Suggestion]


class IndexesAnswer(BaseModel):
    """Names of the served indexes."""

    indexes: list[str]


def describe_fields(document: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI document whose answers have descriptions and are complete.

    Answers are dataclasses, which describe their attributes in a section of the docstring, and
    whose defaults do not mean that a server leaves a member out.
    """
    for schema in document["components"]["schemas"].values():
        schema["description"], section, attributes = schema.get("description", "").partition(
            "\n\nAttributes:\n"
        )
        if section:
            schema["required"] = list(schema["properties"])
        for name, text in re.findall(r"(?m)^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes):
            schema["properties"][name]["description"] = re.sub(r"\s+", " ", text)
        if "start_ms" in schema.get("properties", ()):
            schema["properties"] |= {
                "start_s": _describe_time("start"),
                "end_s": _describe_time("end"),
            }
            schema["required"] += ["start_s", "end_s"]
    return document


def _describe_time(name: str) -> dict[str, Any]:
    """Return the schema of a property of `mmsearch.core.types.TimeSpan`."""
    return {
        "anyOf": [{"type": "number"}, {"type": "null"}],
        "title": f"{name.title()} S",
        "description": f"{name.title()} in seconds; the same as `{name}_ms`.",
    }
