"""The tool ``duplicates``: groups of duplicate files, for assistants that help to tidy up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import BaseModel, Field

from mmsearch.core.duplicate_groups import DuplicateGroup, DuplicateGroups, DuplicateKind
from mmsearch.server.schemas import BoundedText, StrictModel

MAX_ANSWERED_GROUPS = 50
MAX_ANSWERED_FILES = 20
"""Maximum number of files of a group in an answer."""

DUPLICATES_DESCRIPTION = """\
List duplicate pictures of the user's collection in groups: exact copies, near duplicates \
(resized, compressed again, cropped, edited) and bursts (one view within minutes). Use it when the \
user wants to tidy up or asks which pictures are there twice. In each group one file is suggested \
to keep, with the reason. Nothing is deleted, and you cannot delete anything: the user does it.\
"""


class DuplicatesArguments(StrictModel):
    """Arguments of ``duplicates``."""

    kind: DuplicateKind | None = Field(None, description="exact, near or burst; leave out for all.")
    limit: Annotated[
        int, Field(ge=1, le=MAX_ANSWERED_GROUPS, description="Maximum number of groups.")
    ] = 20
    cursor: BoundedText | None = Field(None, description="next_cursor of the answer before.")


class DuplicateInfo(BaseModel):
    """A file of a group."""

    id: int = Field(description="Id for get_image.")
    path: str = Field(description="Path of the file; undecodable bytes are escaped.")
    width: int = Field(description="Width in pixels.")
    height: int
    format: str
    size_bytes: int
    taken_at: str | None
    keep: bool = Field(description="True for the file that is suggested to keep.")
    reason: str = Field(description="Why it is; empty for the others.")


class DuplicateGroupInfo(BaseModel):
    """Files that are duplicates of each other."""

    kind: DuplicateKind
    files: int = Field(description="Number of files; those in hits are at most 20.")
    freed_bytes: int = Field(description="Size of all files but the one to keep.")
    hits: list[DuplicateInfo]

    @classmethod
    def from_group(cls, group: DuplicateGroup) -> Self:
        """Return what an answer says of a group."""
        hits = [
            DuplicateInfo(**file.to_dict() | {"path": file.location})
            for file in group.hits[:MAX_ANSWERED_FILES]
        ]
        return cls(kind=group.kind, files=len(group.hits), freed_bytes=group.freed_bytes, hits=hits)


class DuplicatesOutput(BaseModel):
    """Result of ``duplicates``."""

    groups: list[DuplicateGroupInfo]
    counts: dict[str, int] = Field(description="Number of all groups, by kind.")
    next_cursor: str | None = Field(description="Cursor of the next groups; null for the last.")

    @classmethod
    def from_groups(cls, found: DuplicateGroups) -> Self:
        """Return the answer for a page of groups."""
        return cls(
            groups=[DuplicateGroupInfo.from_group(group) for group in found.groups],
            counts=dict(found.counts),
            next_cursor=found.next_cursor,
        )


def format_duplicates(output: DuplicatesOutput) -> str:
    """Return the text of an answer."""
    return "\n".join(_format_lines(output))


def _format_lines(output: DuplicatesOutput) -> Iterator[str]:
    counts = ", ".join(f"{count:,} {kind}" for kind, count in output.counts.items())
    yield f"Groups of duplicates: {counts}. Nothing was deleted."
    for number, group in enumerate(output.groups, start=1):
        yield f"{number}. {group.kind}: {group.files} files"
        for file in group.hits:
            mark = f"keep, {file.reason}: " if file.keep else ""
            size = f"{file.width} x {file.height} {file.format}, {file.size_bytes:,} bytes"
            yield f"   {mark}{file.path} (id {file.id}, {size})"
    if output.next_cursor is not None:
        yield f"There are more groups: pass cursor {output.next_cursor}."
