"""What an assistant is answered, for models: the half of each answer that is read."""

from __future__ import annotations

from collections.abc import Iterator

from mmsearch.core.queries import Band
from mmsearch.mcp.results import (
    IndexInfo,
    PictureHit,
    PictureInfo,
    SearchOutput,
)


def format_search_heading(output: SearchOutput) -> str:
    """What stands above the pictures of a search."""
    return "\n".join(
        [*_format_notices(output), f"{len(output.hits)} of {output.pictures:,} pictures."]
    )


def format_similar_heading(output: SearchOutput, image_id: int) -> str:
    """What stands above the pictures that look like one."""
    return (
        f"{len(output.hits)} of {output.pictures:,} pictures, those most like picture {image_id}."
    )


def format_hit(hit: PictureHit) -> str:
    """A picture that was found."""
    match_label = f"{hit.band} ({hit.confidence:.0%})"
    return f"{hit.rank}. {_format_details(hit, f'score {hit.score:.3f}', match_label)}"


def format_picture(picture: PictureInfo) -> str:
    """A picture that was asked for."""
    return _format_details(picture)


def format_index(index: IndexInfo) -> str:
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


def _format_notices(output: SearchOutput) -> Iterator[str]:
    if output.dropped_tokens:
        yield (
            f"The query is longer than the model reads; "
            f"the last {output.dropped_tokens} tokens were left out."
        )
    if not output.pictures:
        yield "This index holds no pictures yet."
    elif not output.passed:
        yield "No picture passes the filters."
    elif output.match is None:
        yield "No text of a picture holds a word of this."
    elif output.match is Band.UNLIKELY and output.calibrated:
        yield "Nothing here looks like that; nearest:"


def _format_details(picture: PictureInfo, *extra: str) -> str:
    date_label = "taken" if picture.dated_by == "camera" else "file of"
    details = [f"id {picture.id}", *extra, f"{picture.width}x{picture.height}"]
    details.append(f"{date_label} {picture.date}")
    if picture.camera:
        details.append(picture.camera)
    copies = [f"also at {path}" for path in picture.copies]
    return "\n   ".join([", ".join(details), picture.path, *copies, *picture.texts])
