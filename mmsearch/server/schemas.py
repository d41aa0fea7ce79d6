"""What is asked and answered over HTTP, as OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

HITS_LIMIT = 1000
"""So many hits of a query can be paged through."""

PAGE_LIMIT = 200
BATCH_LIMIT = 100
TEXT_LIMIT = 2000
"""Characters of a query."""

URLS_LIMIT = 4
"""Pictures of a query that are fetched."""

BoundedText = Annotated[str, Field(max_length=TEXT_LIMIT)]
UrlList = Annotated[
    list[BoundedText],
    Field(
        max_length=URLS_LIMIT,
        description="URLs of pictures that hits should look like, if the server fetches them.",
    ),
]


class StrictModel(BaseModel):
    """Base of what is asked: a misspelt member is an error, not nothing."""

    model_config = ConfigDict(extra="forbid")


class FilterBody(StrictModel):
    """Which pictures may be found; as the options of `mmsearch query`."""

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
        None, description="A condition.", examples=["width > 2*height"]
    )


class SearchBody(StrictModel):
    """A query, as `mmsearch query` takes it, and which page of its answer is wanted."""

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
        "", description="A line of the query language; empty for pictures alone."
    )
    without: list[BoundedText] = Field(
        [], alias="not", max_length=20, description="What pictures should not look like."
    )
    like: list[int] = Field(
        [], max_length=20, description="Ids of pictures that hits should look like."
    )
    like_url: UrlList = []
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None, description="Default: hybrid if the index has texts."
    )
    blend: BoundedText | None = Field(None, description="How both lists become one in hybrid mode.")
    prompts: list[BoundedText] | None = Field(
        None, min_length=1, max_length=20, description="Phrasings of a text, each with one {}."
    )
    filters: FilterBody = FilterBody.model_construct()
    limit: int = Field(20, ge=1, le=PAGE_LIMIT, description="Hits of a page.")
    cursor: BoundedText | None = Field(None, description="Of an earlier answer: the page after it.")
    min_score: float | None = Field(None, allow_inf_nan=False)
    min_confidence: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    explain: bool = Field(
        True, description="Say how sure each hit is, and which text speaks for it."
    )


class SearchParams(FilterBody):
    """A query in a URL, with its filters."""

    q: BoundedText = Field("", description="A line of the query language.", examples=["a windmill"])
    without: list[BoundedText] = Field([], alias="not", max_length=20)
    like: list[int] = Field([], max_length=20, description="Ids of pictures.")
    like_url: UrlList = []
    limit: int = Field(20, ge=1, le=PAGE_LIMIT)
    cursor: BoundedText | None = None
    mode: Literal["vector", "text", "hybrid"] | None = None

    def to_search_body(self) -> SearchBody:
        """The same as a body."""
        values = self.model_dump(by_alias=True)
        search_fields = {"not", "like", "like_url", "limit", "cursor", "mode"}
        filters = {name: values[name] for name in FilterBody.model_fields}
        search_values = {name: values[name] for name in search_fields}
        return SearchBody.model_validate({"query": self.q, "filters": filters, **search_values})


class BatchBody(StrictModel):
    """Several searches."""

    searches: list[SearchBody] = Field(min_length=1, max_length=BATCH_LIMIT)


class TextsBody(StrictModel):
    """Texts to encode."""

    texts: list[BoundedText] = Field(
        min_length=1, max_length=BATCH_LIMIT, examples=[["a windmill"]]
    )


class JobBody(StrictModel):
    """A folder to bring the index up to date with."""

    root: BoundedText = Field(description="The name of a folder that is indexed already.")
    retry_failed: bool = False


class TextOf(BaseModel):
    """A text of a picture."""

    kind: str
    text: str
    language: str | None
    source: str


class Matched(BaseModel):
    """The text that speaks for a hit."""

    text: str
    kind: str
    language: str | None
    spans: list[tuple[int, int]] = Field(description="Where the query's words are in it.")


class PictureAnswer(BaseModel):
    """A picture of an index."""

    id: int
    path: str = Field(description="For people: bytes that are no text are escaped.")
    copies: list[str] = Field(description="Other places with the same content.")
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
    links: dict[str, str] = Field(description="self, original and thumbnail.")


class HitAnswer(PictureAnswer):
    """A picture that was found, and why."""

    rank: int = Field(description="From 1, across pages.")
    score: float = Field(description="What the order goes by.")
    visual: float | None = Field(description="Cosine similarity.")
    text: float = Field(description="Share of the query's words that its texts hold.")
    matched: Matched | None
    confidence: float = Field(description="Probability that it shows what was asked for.")
    band: str = Field(description="likely, possible or unlikely.")


class SearchAnswer(BaseModel):
    """A page of an answer."""

    query: str
    mode: str
    hits: list[HitAnswer]
    next_cursor: str | None = Field(description="For the page after this one; null: none.")
    match: str | None = Field(description="The band of the best hit: is it here at all?")
    calibrated: bool = Field(description="Whether confidences were fitted for this encoder.")
    generation: int = Field(description="State of the index.")
    pictures: int = Field(description="That the index holds.")
    passed: int = Field(description="That pass the filters.")
    encoder: str
    dropped_tokens: int = Field(description="Of the query, beyond what the encoder reads.")
    timings_s: dict[str, float]


class Problem(BaseModel):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


class BatchAnswer(BaseModel):
    """An answer or a problem for each search, in their order."""

    answers: list[SearchAnswer | Problem]


class EmbeddingsAnswer(BaseModel):
    """Unit vectors in the space of the index's encoder."""

    encoder: str
    fingerprint: str = Field(description="Vectors of one fingerprint may be compared.")
    dim: int
    embeddings: list[list[float]]


class IndexAnswer(BaseModel):
    """What an index holds."""

    name: str
    pictures: int
    files: int
    failures: int
    generation: int
    encoder: str | None
    fusion: str | None
    vector_index: str | None
    roots: list[str] = Field(description="Names of the folders that are indexed.")
    waiting: int = Field(description="Pictures beside the built vector index.")
    bytes_by_part: dict[str, int]
    last_run: dict[str, Any] | None


class IndexesAnswer(BaseModel):
    """Names of indexes."""

    indexes: list[str]


class JobAnswer(BaseModel):
    """An indexing job."""

    id: str
    index: str
    root: str
    state: Literal["running", "finished", "interrupted", "failed"]
    phase: str | None
    done: int
    total: int | None = Field(description="Null while it is not known.")
    report: dict[str, int] | None
    error: str | None
