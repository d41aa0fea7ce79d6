"""Schemas of HTTP requests and answers, which also generate the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

HITS_LIMIT = 1000
"""Maximum number of hits of a query that can be paged through."""

PAGE_LIMIT = 200
BATCH_LIMIT = 100
TEXT_LIMIT = 2000
"""Maximum number of characters in a query."""

URLS_LIMIT = 4
"""Maximum number of pictures fetched for a query."""

BoundedText = Annotated[str, Field(max_length=TEXT_LIMIT)]
UrlList = Annotated[
    list[BoundedText],
    Field(
        max_length=URLS_LIMIT,
        description="URLs of pictures that hits should look like, if the server fetches them.",
    ),
]


class StrictModel(BaseModel):
    """Base class of request bodies; unknown members are errors, so misspelt ones are noticed."""

    model_config = ConfigDict(extra="forbid")


class FilterBody(StrictModel):
    """Filters of a search, the same as the options of `mmsearch query`."""

    path: list[BoundedText] = Field([], max_length=50, description="Patterns as in .gitignore.")
    after: BoundedText | None = Field(
        None, description="ISO 8601 date or time.", examples=["2019-05"]
    )
    before: BoundedText | None = Field(None, description="ISO 8601 date or time.")
    min_width: int | None = Field(None, ge=0, le=2**31)
    min_height: int | None = Field(None, ge=0, le=2**31)
    orientation: Literal["landscape", "portrait", "square"] | None = None
    format: list[BoundedText] = Field([], max_length=50, examples=[["jpeg"]])
    camera: list[BoundedText] = Field([], max_length=50)
    near: BoundedText | None = Field(None, description="LATITUDE,LONGITUDE,KILOMETRES")
    tag: list[BoundedText] = Field([], max_length=50)
    where: BoundedText | None = Field(
        None, description="A filter expression.", examples=["width > 2*height"]
    )


class SearchBody(StrictModel):
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

    query: BoundedText = Field(
        "", description="A query in the query language; empty to search by pictures only."
    )
    without: list[BoundedText] = Field(
        [],
        alias="not",
        max_length=20,
        description="Descriptions of what hits should not look like.",
    )
    like: list[int] = Field(
        [], max_length=20, description="Ids of pictures that hits should look like."
    )
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
    filters: FilterBody = FilterBody.model_construct()
    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Maximum number of hits per page.")
    cursor: BoundedText | None = Field(
        None, description="The next_cursor of an earlier answer, for its next page."
    )
    min_score: float | None = Field(None, allow_inf_nan=False)
    min_confidence: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    explain: bool = Field(
        True, description="Return the confidence of each hit and the text that matches best."
    )


class SearchParams(FilterBody):
    """A query with filters, as URL parameters."""

    q: BoundedText = Field(
        "", description="A query in the query language.", examples=["a windmill"]
    )
    without: list[BoundedText] = Field([], alias="not", max_length=20)
    like: list[int] = Field([], max_length=20, description="Ids of pictures.")
    like_url: UrlList = []
    limit: int = Field(20, ge=1, le=PAGE_LIMIT)
    cursor: BoundedText | None = None
    mode: Literal["vector", "text", "hybrid"] | None = None

    def to_search_body(self) -> SearchBody:
        """Return the same search as a request body."""
        values = self.model_dump(by_alias=True)
        search_fields = {"not", "like", "like_url", "limit", "cursor", "mode"}
        filters = {name: values[name] for name in FilterBody.model_fields}
        search_values = {name: values[name] for name in search_fields}
        return SearchBody.model_validate({"query": self.q, "filters": filters, **search_values})


class BatchBody(StrictModel):
    """A batch of searches."""

    searches: list[SearchBody] = Field(min_length=1, max_length=BATCH_LIMIT)


class TextsBody(StrictModel):
    """Texts to encode."""

    texts: list[BoundedText] = Field(
        min_length=1, max_length=BATCH_LIMIT, examples=[["a windmill"]]
    )


class JobBody(StrictModel):
    """An indexing job for one folder of the index."""

    root: BoundedText = Field(description="Name of a folder that is already indexed.")
    retry_failed: bool = False


class TextOf(BaseModel):
    """A text of a picture."""

    kind: str
    text: str
    language: str | None
    source: str


class Matched(BaseModel):
    """The text of a hit that contains most of the query's words."""

    text: str
    kind: str
    language: str | None
    spans: list[tuple[int, int]] = Field(description="Positions of the query's words in the text.")


class PictureAnswer(BaseModel):
    """A picture of an index."""

    id: int
    path: str = Field(description="Path for display: bytes that are not valid text are escaped.")
    copies: list[str] = Field(description="Paths of other files with the same content.")
    width: int
    height: int
    format: str
    taken_at: str | None
    camera: str | None
    latitude: float | None
    longitude: float | None
    modified_at: float = Field(description="Seconds since 1970.")
    size_bytes: int
    texts: list[TextOf]
    links: dict[str, str] = Field(description="URLs named self, original and thumbnail.")


class HitAnswer(PictureAnswer):
    """A picture that was found, with its scores and matching text."""

    rank: int = Field(description="Rank of the hit, from 1, across pages.")
    score: float = Field(description="Score that hits are ordered by.")
    visual: float | None = Field(description="Cosine similarity.")
    text: float = Field(description="Share of the query's words that its texts contain.")
    matched: Matched | None
    confidence: float = Field(description="Probability that the picture matches the query.")
    band: str = Field(description="likely, possible or unlikely.")


class SearchAnswer(BaseModel):
    """A page of search results."""

    query: str
    mode: str
    hits: list[HitAnswer]
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last page.")
    match: str | None = Field(
        description="Band of the best hit: shows whether the index has a match."
    )
    calibrated: bool = Field(description="True if confidences are calibrated for this encoder.")
    generation: int = Field(description="Generation of the index that was searched.")
    pictures: int = Field(description="Number of pictures in the index.")
    passed: int = Field(description="Number of pictures that pass the filters.")
    encoder: str
    dropped_tokens: int = Field(
        description="Query tokens beyond the encoder's limit, which were ignored."
    )
    timings_s: dict[str, float]


class Problem(BaseModel):
    """An error as a problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class BatchAnswer(BaseModel):
    """An answer or a problem for each search, in the order of the request."""

    answers: list[SearchAnswer | Problem]


class EmbeddingsAnswer(BaseModel):
    """Unit vectors in the embedding space of the index's encoder."""

    encoder: str
    fingerprint: str = Field(
        description="Encoder fingerprint; only vectors with the same one are comparable."
    )
    dim: int
    embeddings: list[list[float]]


class IndexAnswer(BaseModel):
    """Contents and status of an index."""

    name: str
    pictures: int
    files: int
    failures: int
    generation: int
    encoder: str | None
    fusion: str | None
    vector_index: str | None
    roots: list[str] = Field(description="Names of the indexed folders.")
    waiting: int = Field(description="Pictures that are not yet in the built vector index.")
    bytes_by_part: dict[str, int]
    last_run: dict[str, Any] | None


class IndexesAnswer(BaseModel):
    """Names of the served indexes."""

    indexes: list[str]


class JobAnswer(BaseModel):
    """An indexing job."""

    id: str
    index: str
    root: str
    state: Literal["running", "finished", "interrupted", "failed"]
    phase: str | None
    done: int
    total: int | None = Field(description="Files to process; null while unknown.")
    report: dict[str, int] | None
    error: str | None
