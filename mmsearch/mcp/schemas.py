"""Arguments and answers of the tools, with their schemas, and answers as text for a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, create_model

from mmsearch.core.display import display_path, excerpt, format_folded, format_match, format_time
from mmsearch.core.query import Band, MatchedText
from mmsearch.core.results import Duplicate, Hit, IndexStatus, Item, Moment, SearchResult
from mmsearch.core.types import IMAGE_KIND, Text
from mmsearch.core.understood import Understood
from mmsearch.server.schemas import BoundedText, PictureId, SortOrder, StrictModel, filter_fields
from mmsearch.server.thumbnails import Size

MAX_HITS = 30
"""Maximum hits per answer: a model reads every hit, and can refine its query for others."""

MAX_LIST_ITEMS = 20

MAX_AUDIO_CHARS = 4_000_000
"""Maximum length of a recording in base64: 3 MB, of which 60 seconds as WAV at 16 kHz take two."""


def as_list(value: Any) -> Any:
    """Return a list: models omit the brackets of a single value, and send null for no value."""
    if value is None:
        return []
    return [value] if isinstance(value, str | int) else value


TextList = Annotated[list[BoundedText], Field(max_length=MAX_LIST_ITEMS), BeforeValidator(as_list)]
ImageId = Annotated[
    PictureId, Field(ge=1, le=2**63 - 1, description="An id from search_images or similar_images.")
]
ImageIds = Annotated[list[ImageId], Field(max_length=MAX_LIST_ITEMS), BeforeValidator(as_list)]
LikeIds = Annotated[
    ImageIds, Field(description="Ids of matches that are right: rank pictures like them higher.")
]
UnlikeIds = Annotated[
    ImageIds,
    Field(description="Ids of matches that are wrong: leave them out and rank similar ones lower."),
]
Limit = Annotated[int, Field(ge=1, le=MAX_HITS, description="Maximum number of pictures.")]


FoldArgument = Annotated[
    bool,
    Field(
        description="Return one of near duplicates and of a burst, with the ids of the others; "
        "false returns each of them."
    ),
]


LiteralArgument = Annotated[
    bool,
    Field(
        description="Read no dates, people and places in the words as filters; use it if "
        '"understood" is not what was meant.'
    ),
]


def add_filters(options: type[StrictModel], name: str, tool: str) -> type[StrictModel]:
    """Return a model of the arguments of a tool: its options and all filters.

    Args:
        options: The arguments except filters.
        name: Name of the model.
        tool: Name of the tool.
    """
    text_list = Annotated[list[BoundedText], BeforeValidator(as_list)]
    return create_model(
        name,
        __base__=options,
        __doc__=f"Arguments of ``{tool}``.",
        **filter_fields(text_list, MAX_LIST_ITEMS),
    )


class SearchOptions(StrictModel):
    """Arguments of ``search_images`` except filters."""

    query: BoundedText = Field(
        description="What the pictures show, in English.",
        examples=["a windmill", "2:dog + snow", "street -people"],
    )
    limit: Limit = 8
    sort: SortOrder = "score"
    fold: FoldArgument = True
    literal: LiteralArgument = False
    without: TextList = Field(
        [], description="What the pictures should not show; one thing per entry."
    )
    like: LikeIds = Field([])
    unlike: UnlikeIds = Field([])
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None,
        description="vector: by look; text: by the words of captions, keywords and file names; "
        "hybrid: both. Leave it out unless one of them is meant.",
    )


if TYPE_CHECKING:
    SearchArguments = SearchOptions
else:
    SearchArguments = add_filters(SearchOptions, "SearchArguments", "search_images")


class SpeechOptions(StrictModel):
    """Arguments of ``search_by_speech`` except filters."""

    audio: str = Field(
        max_length=MAX_AUDIO_CHARS,
        description="The recording itself in base64: a file such as WAV, MP3, Ogg, WebM or M4A of "
        "at most 60 seconds and 3 MB. A path is not read.",
    )
    language: str | None = Field(
        None,
        min_length=2,
        max_length=10,
        description="Code of the language that is spoken, such as de; leave it out to detect it.",
    )
    limit: Limit = 8
    sort: SortOrder = "score"
    fold: FoldArgument = True
    literal: LiteralArgument = False
    without: TextList = Field(
        [], description="What the pictures should not show; one thing per entry."
    )
    like: LikeIds = Field([])
    unlike: UnlikeIds = Field([])
    mode: Literal["vector", "text", "hybrid"] | None = Field(
        None, description="As for search_images; leave it out unless one of them is meant."
    )


if TYPE_CHECKING:
    SpeechArguments = SpeechOptions
else:
    SpeechArguments = add_filters(SpeechOptions, "SpeechArguments", "search_by_speech")


class SimilarArguments(StrictModel):
    """Arguments of ``similar_images``."""

    image_id: ImageId
    limit: Limit = 8
    sort: SortOrder = "score"
    fold: FoldArgument = True


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


MAX_TEXTS = 5
"""Maximum texts per picture in an answer; caption tables may give it any number."""

MAX_TEXT_CHARS = 200
"""Maximum characters per text."""

MAX_COPIES = 5
MAX_FOLDERS = 50


class PictureInfo(BaseModel):
    """A picture in the index."""

    id: int = Field(description="Id for get_image and similar_images.")
    path: str = Field(description="Path of the file; undecodable bytes are escaped.")
    position: str = Field(
        description="Where it is in the file: a time such as 1:02:03, or a page; empty for all."
    )
    start_s: float | None = Field(description="Start of a moment of a film or sound in seconds.")
    end_s: float | None = Field(description="End of a moment in seconds.")
    page: int | None = Field(description="Number of a page of a document, from 1.")
    kind: str = Field(description="image, video, sound or document.")
    width: int = Field(description="Width in pixels; 0 if it is not known, as of a sound.")
    height: int
    date: str = Field(description="Date it was taken, or its file was modified.")
    dated_by: str = Field(
        description="Where the date comes from: exif, xmp, ..., or the time of its file."
    )
    camera: str | None
    place: str | None = Field(description="Where it was taken, such as Lisbon, Portugal.")
    texts: list[str] = Field(description="Texts about the picture, each with its kind.")
    copies: list[str] = Field(description="Other paths with the same content.")
    key: str = Field(description="Id that its source or a program gave it, or its relative path.")
    keys: list[str] = Field(description="Ids of all pictures of programs with this content.")
    metadata: dict[str, Any] = Field(
        description="Values that its source or a program gave it; where filters by them."
    )

    @classmethod
    def from_item(cls, item: Item, matched: MatchedText | None = None, **scores: Any) -> Self:
        """Make an entry from a picture.

        Args:
            item: The picture.
            matched: Text that matches the query, of which an excerpt around the match is shown.
            scores: The other fields of a hit.
        """
        date, dated_by = _date_with_source(item)
        return cls(
            id=item.id,
            path=item.location,
            position=item.position,
            start_s=item.start_s,
            end_s=item.end_s,
            page=item.page,
            kind=item.kind,
            width=item.width,
            height=item.height,
            date=date,
            dated_by=dated_by,
            camera=item.camera,
            place=item.place,
            texts=_format_texts(item.texts, matched),
            copies=[display_path(path) for path in item.copies[:MAX_COPIES]],
            key=item.key,
            keys=list(item.keys[:MAX_COPIES]),
            metadata=dict(item.metadata),
            **scores,
        )


class MomentInfo(BaseModel):
    """Another moment or page of the file of a hit."""

    id: int = Field(description="Id for get_image and similar_images.")
    position: str = Field(description="Its time, such as 1:02:03, or its page.")
    start_s: float | None = Field(description="Start of a moment in seconds.")
    end_s: float | None = Field(description="End of a moment in seconds.")
    page: int | None = Field(description="Number of a page, from 1.")

    @classmethod
    def from_moment(cls, moment: Moment) -> Self:
        """Make an entry from a moment of a hit."""
        return cls(
            id=moment.id,
            position=moment.position,
            start_s=moment.start_s,
            end_s=moment.end_s,
            page=moment.page,
        )


class DuplicateInfo(BaseModel):
    """Another picture that a hit stands for."""

    id: int = Field(description="Id for get_image and similar_images.")
    path: str = Field(description="Path of the file; undecodable bytes are escaped.")
    kind: Literal["near", "burst"] = Field(
        description="near: resized, recompressed or cropped; burst: taken within the same minutes, "
        "with the same look."
    )

    @classmethod
    def from_duplicate(cls, duplicate: Duplicate) -> Self:
        """Make an entry from a duplicate of a hit."""
        kind: Any = duplicate.kind
        return cls(id=duplicate.id, path=duplicate.location, kind=kind)


class PictureHit(PictureInfo):
    """A picture found by a search."""

    rank: int = Field(description="Rank from 1, best first.")
    score: float = Field(description="Score that sorts the hits.")
    confidence: float = Field(
        description="Probability that it matches the query; below possible, it says little."
    )
    band: Band = Field(description="Confidence as a word; unlikely means a weak match.")
    moments: list[MomentInfo] = Field(
        description="Other moments or pages of the same file that match, best first."
    )
    folded: int = Field(
        description="Number of near duplicates and pictures of its burst for which it stands."
    )
    duplicates: list[DuplicateInfo] = Field(
        description="At most 20 of these, near duplicates first."
    )

    @classmethod
    def from_hit(cls, rank: int, hit: Hit) -> Self:
        """Make an entry from a hit and its rank."""
        return cls.from_item(
            hit,
            hit.matched,
            rank=rank,
            score=hit.score,
            confidence=hit.confidence,
            band=hit.band,
            moments=[MomentInfo.from_moment(moment) for moment in hit.moments],
            folded=hit.folded,
            duplicates=[DuplicateInfo.from_duplicate(each) for each in hit.duplicates],
        )


class SearchOutput(BaseModel):
    """The answer of a search."""

    hits: list[PictureHit]
    match: Band | None = Field(description="Band of the best hit: is there any match?")
    calibrated: bool = Field(
        description="True if confidences were fitted for this model; if not, ignore them."
    )
    pictures: int = Field(description="Pictures in the index.")
    passed: int = Field(description="Pictures that pass the filters.")
    undated: int = Field(description="Pictures left out because their date is unknown.")
    dropped_tokens: int = Field(description="Query tokens beyond the limit of the model.")
    notices: list[str] = Field(description="Sentences about the query, such as its spelling.")
    understood: dict[str, Any] | None = Field(
        description="Filters that were read in the words of the query, and the text that remains."
    )

    @classmethod
    def from_result(cls, result: SearchResult, hits: Sequence[Hit]) -> Self:
        """Make an answer from a search result and the hits to return."""
        return cls(
            hits=[PictureHit.from_hit(rank, hit) for rank, hit in enumerate(hits, 1)],
            match=result.match,
            calibrated=result.calibrated,
            pictures=result.pictures,
            passed=result.passed,
            undated=result.undated,
            dropped_tokens=result.dropped_tokens,
            notices=[display_path(notice.text) for notice in result.notices],
            understood=None if result.understood is None else result.understood.to_dict(),
        )


class SpokenSearchOutput(SearchOutput):
    """The answer of a search by speech."""

    heard: str = Field(description="The words that were heard and searched for, literally.")
    language: str = Field(description="Code of the language that was spoken, such as en.")
    heard_confidence: float = Field(
        description="How certain the recognizer is of the words, 0 to 1."
    )


class SimilarOutput(SearchOutput):
    """The answer of a search by a picture of the index, which is left out."""

    folded: int = Field(
        description="Number of near duplicates of this picture and other pictures of its burst."
    )
    duplicates: list[DuplicateInfo] = Field(
        description="At most 20 of these, near duplicates first."
    )

    @classmethod
    def from_stack(cls, result: SearchResult, hits: Sequence[Hit], own: Hit | None) -> Self:
        """Make an answer from a search result, the hits to return, and the hit of the picture."""
        return cls(
            **dict(SearchOutput.from_result(result, hits)),
            folded=0 if own is None else own.folded,
            duplicates=[
                DuplicateInfo.from_duplicate(each) for each in (own.duplicates if own else ())
            ],
        )


class IndexInfo(BaseModel):
    """Contents of an index."""

    name: str
    pictures: int = Field(description="Distinct pictures that can be found.")
    files: int = Field(description="Paths of those pictures.")
    unreadable: int = Field(description="Files that could not be read.")
    folders: list[str] = Field(description="Indexed folders.")
    encoder: str | None = Field(description="Model that compares pictures and words.")
    indexed_at: str | None = Field(description="Start of the last indexing run.")

    @classmethod
    def from_status(cls, status: IndexStatus) -> Self:
        """Make a summary of an index status."""
        identity, run = status.identity, status.last_run
        return cls(
            name=status.name,
            pictures=status.pictures,
            files=status.files,
            unreadable=len(status.failures),
            folders=[display_path(root.path) for root in status.roots[:MAX_FOLDERS]],
            encoder=identity.encoder.name if identity else None,
            indexed_at=run.started_at if run else None,
        )


def _date_with_source(item: Item) -> tuple[str, str]:
    if item.taken_at:
        return item.taken_at[:10], item.taken_from or "camera"
    return datetime.fromtimestamp(item.modified_at).astimezone().date().isoformat(), "file"


def _format_texts(texts: Sequence[Text], matched: MatchedText | None) -> list[str]:
    """Return each text on one line: texts in files could imitate the lines of an answer.

    The text that matches is always among them: a film has more lines than an answer holds.
    """
    own = [(text.kind, text.text, text.start_ms) for text in texts]
    match = None if matched is None else (matched.kind, matched.text, matched.start_ms)
    if match in own[MAX_TEXTS:]:
        own = [match, *own]
    formatted = []
    for kind, text, start_ms in own[:MAX_TEXTS]:
        shown = text
        if matched is not None and (kind, text, start_ms) == match:
            shown = excerpt(vars(matched), MAX_TEXT_CHARS - 2, with_origin=False)[0]
        line = display_path(" ".join(shown.split()))
        short_line = line if len(line) <= MAX_TEXT_CHARS else f"{line[: MAX_TEXT_CHARS - 1]}…"
        time = "" if start_ms is None else f" at {format_time(start_ms)}"
        formatted.append(f"{kind}{time}: {short_line}")
    return formatted


def format_search_heading(output: SearchOutput) -> str:
    """Return the heading above the hits of a search."""
    heard = []
    if isinstance(output, SpokenSearchOutput):
        heard = [f'Heard: "{display_path(output.heard)}"']
    count = f"{len(output.hits)} of {output.pictures:,} pictures."
    return "\n".join(
        [*heard, *format_understood(output.understood), *_format_notices(output), count]
    )


def format_understood(understood: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield the line that says what was read in the words of a query, if anything was."""
    if understood is not None:
        line = Understood.from_dict(understood).line
        yield f"Read as: {display_path(line)}; literal: true turns this off."


def format_similar_heading(output: SearchOutput, image_id: int) -> str:
    """Return the heading above the pictures that are similar to one."""
    heading = (
        f"{len(output.hits)} of {output.pictures:,} pictures, "
        f"the most similar to picture {image_id}."
    )
    own = _format_folded(output) if isinstance(output, SimilarOutput) else ""
    return f"{heading}\nPicture {image_id} itself: {own}" if own else heading


def format_hit(hit: PictureHit, *, calibrated: bool = True) -> str:
    """Return the text about a hit; ``calibrated`` is that of its `SearchOutput`."""
    label = format_match(hit.band, hit.confidence, calibrated=calibrated)
    if calibrated and not label:
        label = "weak match"
    extra = [f"score {hit.score:.3f}", *([label] if label else [])]
    text = f"{hit.rank}. {_format_details(hit, *extra)}"
    others = ", ".join(f"{moment.position} (id {moment.id})" for moment in hit.moments)
    lines = [f"also in this file: {others}" if others else "", _format_folded(hit)]
    return "\n   ".join([text, *filter(None, lines)])


def _format_folded(stack: PictureHit | SimilarOutput) -> str:
    """Return how many pictures one stands for, with their ids; "" for one that is alone."""
    if not stack.folded:
        return ""
    ids = [str(duplicate.id) for duplicate in stack.duplicates]
    rest = stack.folded - len(ids)
    ids += [f"and {rest:,} more"] if rest else []
    return f"{format_folded(stack.folded)} similar: ids {', '.join(ids)}"


def format_picture(picture: PictureInfo) -> str:
    """Return the text about a picture."""
    return _format_details(picture)


def format_index(index: IndexInfo) -> str:
    """Return the text about an index."""
    lines = [
        f"Index {index.name!r}: {index.pictures:,} pictures in {index.files:,} files, "
        f"encoded by {index.encoder or 'no model yet'}.",
        *(f"Folder: {folder}" for folder in index.folders),
    ]
    if index.unreadable:
        lines.append(f"{index.unreadable:,} files could not be read.")
    if index.indexed_at:
        lines.append(f"Last indexed: {index.indexed_at}")
    return "\n".join(lines)


def _format_notices(output: SearchOutput) -> Iterator[str]:
    if output.dropped_tokens:
        yield (
            f"The query is longer than the model can read; "
            f"the last {output.dropped_tokens} tokens were left out."
        )
    if not output.pictures:
        yield "This index holds no pictures yet."
    elif not output.passed:
        yield "No picture passes the filters."
    elif output.match is None:
        yield "No text of any picture contains a word of the query."
    elif output.match is Band.UNLIKELY and output.calibrated:
        yield "No good matches. Closest results:"
    yield from output.notices
    if output.undated:
        yield (
            f"{output.undated:,} pictures are left out because their date is unknown; file_dates "
            "uses the time of the file."
        )


def _format_details(picture: PictureInfo, *extra: str) -> str:
    date_label = "file dated" if picture.dated_by == "file" else "taken"
    details = [f"id {picture.id}", *extra]
    details += [] if picture.kind == IMAGE_KIND else [picture.kind]
    details += [f"{picture.width}x{picture.height}"] if picture.width else []
    details.append(f"{date_label} {picture.date}")
    if picture.camera:
        details.append(picture.camera)
    if picture.place:
        details.append(picture.place)
    copies = [f"also at {path}" for path in picture.copies]
    path = f"{picture.path} ({picture.position})" if picture.position else picture.path
    return "\n   ".join([", ".join(details), path, *copies, *picture.texts])
