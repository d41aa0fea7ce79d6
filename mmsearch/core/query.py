"""Queries: modes, terms, filters, search requests, and the texts that match."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mmsearch.core.arguments import check_fields, check_value
from mmsearch.core.boxes import LineBox
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.filters import NO_FILTERS, Filters
from mmsearch.core.types import TimeSpan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmsearch.core.types import Ids, Vectors
    from mmsearch.core.understood import Understood


HITS_LIMIT = 1000
"""Maximum number of hits that a server returns for a query."""

PAGE_LIMIT = 200
"""Maximum number of hits in one answer of a server."""

TEXTS_LIMIT = 100
"""Maximum number of searches or texts in one request to a server."""


TEXT_PRIOR = 0.04
"""Probability that a picture is relevant if nothing is known about its look."""


class Mode(StrEnum):
    """Ranking modes: by vectors, by texts, or by both."""

    VECTOR = "vector"
    TEXT = "text"
    HYBRID = "hybrid"


class Band(StrEnum):
    """Verbal levels of the confidence that a hit matches the query."""

    LIKELY = "likely"
    POSSIBLE = "possible"
    UNLIKELY = "unlikely"


@dataclass(frozen=True)
class Term:
    """One part of a query, which a picture should or should not look like.

    Exactly one of `text`, `image`, `picture` and `url` is set.

    Attributes:
        text: A description.
        image: A picture file.
        picture: Id of a picture of the index (`Hit.id`); its stored vector is used, not its file.
            Beside a text or another picture, it is feedback: a hit that is right or, with a
            negative weight, wrong and therefore left out.
        url: The http or https URL of a picture. A server fetches it and replaces the URL by the
            downloaded file; an index refuses URLs.
        weight: Weight of the term; a negative weight ranks similar pictures lower. Never 0.
        language: Code of the language in which the text was spoken; None for a text that was
            written, whose language is guessed.
        literal_words: Phrases of the text in which no date, place or person is read, because they
            were written in quotation marks. They do not count in comparisons of terms.
    """

    text: str | None = None
    image: Path | None = None
    weight: float = 1.0
    picture: int | None = None
    url: str | None = None
    language: str | None = None
    literal_words: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.picture is not None:
            picture_id = check_value("picture", self.picture, "PictureId")
            object.__setattr__(self, "picture", picture_id)
        check_fields(self, InvalidQueryError)
        sources = (self.text, self.image, self.picture, self.url)
        if sum(source is not None for source in sources) != 1:
            raise InvalidQueryError(
                "A term must have exactly one of text, image, picture and url.",
                "Use one term for each of them.",
            )


# --- filters ---

Scalar: TypeAlias = str | int | float | bool

FILTER_FIELDS: dict[str, type] = {
    "width": int,
    "height": int,
    "megapixels": float,
    "aspect": float,
    "format": str,
    "kind": str,
    "orientation": str,
    "taken_at": str,
    "taken_from": str,
    "month": int,
    "camera": str,
    "lens": str,
    "rating": int,
    "label": str,
    "damage": str,
    "latitude": float,
    "longitude": float,
    "size_bytes": int,
    "tags": str,
    "auto_tags": str,
    "people": str,
    "place": str,
}
"""Fields that a condition may use, and their types; int and float can be compared.

``aspect`` is width / height, ``kind`` is image, video, document or sound, ``orientation`` is
landscape, portrait or square, ``taken_at`` is an ISO 8601 local time, ``month`` its month from 1.
`LIST_FIELDS` are sets of values.
"""

LIST_FIELDS = ("tags", "auto_tags", "people", "place")
"""Fields with several values, only for `Contains` and `IsMissing`: the keywords of a picture, the
tags that a model gave it, the names of the people in it, and the names of the place."""


ComparisonOperator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
"""Operators of `Compare`."""

MIRRORED_OPERATORS: dict[str, ComparisonOperator] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}
"""Operators of comparisons with the operands the other way round."""

_METADATA = "metadata."


def metadata_member(name: str) -> str | None:
    """Return the member of the metadata that a field is; None for a field of `FILTER_FIELDS`."""
    return name.removeprefix(_METADATA) if name.startswith(_METADATA) else None


def fold_text(value: Any) -> Any:
    """Return text in the form in which texts are compared, and other values unchanged.

    Case is ignored, and a letter with its mark is one character (NFC) however it was written.
    """
    return unicodedata.normalize("NFC", value).casefold() if isinstance(value, str) else value


@dataclass(frozen=True)
class FieldName:
    """The value of a field of a picture: any of `FILTER_FIELDS` except `LIST_FIELDS`.

    ``metadata.NAME`` is the value of a member of `Item.metadata`, of any type: a comparison with a
    text is false for a number, and the other way round.
    """

    name: str

    @property
    def member(self) -> str | None:
        """Name of the member of the metadata; None for another field."""
        return metadata_member(self.name)


@dataclass(frozen=True)
class Arithmetic:
    """An arithmetic operation on two numeric operands, computed in floats.

    The result is missing if an operand is missing or if the divisor is 0.
    """

    left: Operand
    operator: Literal["+", "-", "*", "/"]
    right: Operand


Operand: TypeAlias = FieldName | Arithmetic | Scalar


@dataclass(frozen=True)
class Compare:
    """A comparison of two values; false if either is missing. Strings ignore case."""

    left: Operand
    operator: ComparisonOperator
    right: Operand


@dataclass(frozen=True)
class Contains:
    """True if a string field or a name in `LIST_FIELDS` contains `substring`, ignoring case.

    A keyword in ``tags`` must be equal, and so must an element of a list in the metadata.
    """

    name: str
    substring: str


@dataclass(frozen=True)
class OneOf:
    """True if the value of a field is one of several; false if it is missing."""

    name: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class IsMissing:
    """True if a field has no value."""

    name: str


@dataclass(frozen=True)
class Not:
    """Negation: true if `condition` is false, even if it is false because a value is missing."""

    condition: Condition


@dataclass(frozen=True)
class AllOf:
    """Conjunction: true if all conditions are true."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class AnyOf:
    """Disjunction: true if at least one condition is true."""

    conditions: tuple[Condition, ...]


Condition: TypeAlias = Compare | Contains | OneOf | IsMissing | Not | AllOf | AnyOf


@dataclass(frozen=True)
class Query:
    """A search query.

    Attributes:
        terms: The terms; at least one has a weight above 0. Empty in the query that a search makes
            of one whose words are all filters.
        filters: Filters that pictures must pass.
        mode: Ranking mode; None selects hybrid if the index has texts and the query has words,
            else vector.
        blend: Name of the rank fusion that merges both lists in hybrid mode; None: the default.
        prompts: Prompt templates, each with one ``{}``, whose vectors are averaged for a text;
            None: those of the encoder.
    """

    terms: tuple[Term, ...]
    filters: Filters = NO_FILTERS
    mode: Mode | None = None
    blend: str | None = None
    prompts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self, InvalidQueryError)

    @property
    def is_listing(self) -> bool:
        """True if nothing says what pictures should look like: the newest ones are listed.

        There are filters alone, and possibly pictures that are left out.
        """
        return all(term.picture is not None and term.weight < 0 for term in self.terms)


@dataclass(frozen=True)
class MatchedText(TimeSpan):
    """A text of a picture that contains words of the query.

    Attributes:
        kind: Same as `Text.kind`.
        language: Same as `Text.language`.
        text: The whole text.
        spans: Start and end of each matched word, in characters.
        source: Same as `Text.source`; empty in answers of servers before this member existed.
        confidence: Probability that the text is right, if the model that made it says one.
        start_ms: When it starts in its film or sound, in milliseconds; None for a text without a
            time.
        end_ms: When it ends.
        page: Number of the page that it is on, from 1; None for a text that is on no page.
        boxes: Where the lines with matched words stand in the picture; empty if that is not known.
    """

    kind: str
    language: str | None
    text: str
    spans: tuple[tuple[int, int], ...]
    source: str = ""
    confidence: float | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    page: int | None = None
    boxes: tuple[LineBox, ...] = ()


@dataclass(frozen=True)
class TextTerm:
    """Words that a picture's texts should contain or, with a negative weight, should not."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class TextMatches:
    """Pictures whose texts contain words of a query.

    Attributes:
        ids: int64 (n,), best first.
        scores: float32 (n,), in (0, 1]: the share of the query's words that the picture's texts
            contain. Rare words, exact words, and texts written about the picture count more.
        evidence: float32 (n,), at least 0: logarithm of how much more likely such a match is in a
            picture that is relevant. 0 for words that say nothing, or that half of the pictures
            have.
    """

    ids: Ids
    scores: NDArray[np.float32]
    evidence: NDArray[np.float32]


@dataclass(frozen=True)
class HybridCandidates:
    """Visual and text scores of c candidates, in the order of their ids.

    Attributes:
        ids: int64 (c,), ascending.
        visual_scores: float32 (c,), cosine similarity.
        visual_ranks: int64 (c,), rank among all candidates, from 1.
        text_scores: float32 (c,), in [0, 1], how strong the evidence of the texts is; 0 without a
            match, or if it is no evidence.
        text_ranks: int64 (c,), from 1; 0 without a match.
        has_text: bool (c,), True if the picture has any text.
        visual_baseline: Cosine similarity of a picture that is unrelated to the query.
        look: float64 (c,), in [0, 1], probability that the look of the picture is what the query
            describes; a prior for items without pixels.
        evidence: float32 (c,), as `TextMatches.evidence`; 0 without a match.
        has_look: bool (c,), False for items without pixels, whose visual scores and ranks mean
            nothing: their texts alone count; None if all candidates have pixels.
    """

    ids: Ids
    visual_scores: NDArray[np.float32]
    visual_ranks: NDArray[np.int64]
    text_scores: NDArray[np.float32]
    text_ranks: NDArray[np.int64]
    has_text: NDArray[np.bool_]
    visual_baseline: float
    look: NDArray[np.float64]
    evidence: NDArray[np.float32]
    has_look: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class SearchRequest:
    """A query and the limits of its result.

    Attributes:
        query: The query.
        k: Maximum number of hits.
        min_score: Minimum `Hit.score`; hits below it are left out.
        min_confidence: Minimum `Hit.confidence`; hits below it are left out.
        explain: Compute the confidence and the matched text of each hit. If False, both stay
            empty and `min_confidence` cannot be used.
        sort: Order of the k best hits, one of `mmsearch.core.sorting.SORTS`.
        literal: Read no dates, places and people in the words of the query; see
            `mmsearch.core.understood`.
        literal_words: Words or phrases in which nothing is read.
        check_files: Look for copies of files that no longer exist; see
            `Item.prefer_existing_file`.
        fold: Show the best one of near duplicates and of a burst, with the number of the others;
            see `Hit.folded`. If False, each picture is a hit of its own.
    """

    query: Query
    k: int = 10
    min_score: float | None = None
    min_confidence: float | None = None
    explain: bool = True
    sort: str = "score"
    check_files: bool = True
    fold: bool = True
    literal: bool = False
    literal_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, InvalidQueryError)


@dataclass(frozen=True)
class EncodedQuery:
    """A search request whose terms are encoded.

    Attributes:
        request: The search request.
        encoder: Fingerprint of the encoder.
        seconds: Time to encode the whole batch that the request was part of.
        vectors: (n, dim), one row per term; None in text mode.
        dropped_tokens: Number of tokens beyond the context length of the encoder.
        devices: Device on which each kind of input was encoded.
        understood: Filters that were read in the words of the query, which the request has; None
            without any.
        line: The query before that, as `SearchResult.query`; None if nothing was read.
    """

    request: SearchRequest
    encoder: str
    seconds: float
    vectors: Vectors | None = None
    dropped_tokens: int = 0
    devices: Mapping[str, str] = field(default_factory=dict)
    understood: Understood | None = None
    line: str | None = None
