"""What an assistant is answered, for models: the half of each answer that is read."""

from __future__ import annotations

from collections.abc import Iterator

from mmsearch.core.queries import Band
from mmsearch.mcp.results import (
    DescribedIndex,
    FoundPicture,
    FoundPictures,
    KnownPicture,
)


def heading(found: FoundPictures) -> str:
    """What stands above the pictures of a search."""
    return "\n".join([*_remarks(found), f"{len(found.hits)} of {found.pictures:,} pictures."])


def similar_heading(found: FoundPictures, image_id: int) -> str:
    """What stands above the pictures that look like one."""
    return f"{len(found.hits)} of {found.pictures:,} pictures, those most like picture {image_id}."


def hit_lines(hit: FoundPicture) -> str:
    """A picture that was found."""
    sure = f"{hit.band} ({hit.confidence:.0%})"
    return f"{hit.rank}. {_facts(hit, f'score {hit.score:.3f}', sure)}"


def picture_lines(picture: KnownPicture) -> str:
    """A picture that was asked for."""
    return _facts(picture)


def index_lines(index: DescribedIndex) -> str:
    """An index."""
    lines = [
        f"Index {index.name!r}: {index.pictures:,} pictures in {index.files:,} files, "
        f"compared by {index.encoder or 'no model yet'}.",
        *(f"Folder: {folder}" for folder in index.folders),
    ]
    if index.unreadable:
        lines.append(f"{index.unreadable:,} files could not be read.")
    if index.indexed_at:
        lines.append(f"Last indexed: {index.indexed_at}")
    return "\n".join(lines)


def _remarks(found: FoundPictures) -> Iterator[str]:
    if found.dropped_tokens:
        yield (
            f"The query is longer than the model reads; "
            f"the last {found.dropped_tokens} tokens were left out."
        )
    if not found.pictures:
        yield "This index holds no pictures yet."
    elif not found.passed:
        yield "No picture passes the filters."
    elif found.match is None:
        yield "No text of a picture holds a word of this."
    elif found.match is Band.UNLIKELY and found.calibrated:
        yield "Nothing here looks like that; nearest:"


def _facts(picture: KnownPicture, *more: str) -> str:
    dated = "taken" if picture.dated_by == "camera" else "file of"
    facts = [f"id {picture.id}", *more, f"{picture.width}x{picture.height}"]
    facts.append(f"{dated} {picture.date}")
    if picture.camera:
        facts.append(picture.camera)
    copies = [f"also at {path}" for path in picture.copies]
    return "\n   ".join([", ".join(facts), picture.path, *copies, *picture.texts])
