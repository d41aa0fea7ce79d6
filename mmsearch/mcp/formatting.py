"""Answers of the tools as text for a language model."""

from __future__ import annotations

from collections.abc import Iterator

from mmsearch.core.query import Band
from mmsearch.mcp.results import (
    IndexInfo,
    PictureHit,
    PictureInfo,
    SearchOutput,
)


def format_search_heading(output: SearchOutput) -> str:
    """Return the heading above the hits of a search."""
    return "\n".join(
        [*_format_notices(output), f"{len(output.hits)} of {output.pictures:,} pictures."]
    )


def format_similar_heading(output: SearchOutput, image_id: int) -> str:
    """Return the heading above the pictures that are similar to one."""
    return (
        f"{len(output.hits)} of {output.pictures:,} pictures, "
        f"the most similar to picture {image_id}."
    )


def format_hit(hit: PictureHit) -> str:
    """Return the text about a hit."""
    match_label = f"{hit.band} ({hit.confidence:.0%})"
    return f"{hit.rank}. {_format_details(hit, f'score {hit.score:.3f}', match_label)}"


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


def _format_details(picture: PictureInfo, *extra: str) -> str:
    date_label = "taken" if picture.dated_by == "camera" else "file dated"
    details = [f"id {picture.id}", *extra, f"{picture.width}x{picture.height}"]
    details.append(f"{date_label} {picture.date}")
    if picture.camera:
        details.append(picture.camera)
    copies = [f"also at {path}" for path in picture.copies]
    return "\n   ".join([", ".join(details), picture.path, *copies, *picture.texts])
