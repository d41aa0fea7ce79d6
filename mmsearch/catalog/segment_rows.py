"""Rows of the segments that readers see, and of staged segments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from mmsearch.catalog.tables import SegmentRow, StagedSegmentRow
from mmsearch.core.records import Segment
from mmsearch.storage.layout import parse_file_ref

_SHARED_COLUMNS = ("number", "name", "bytes", "sha256", "rows", "dim")


def segment_values(segment: Segment) -> dict[str, Any]:
    """Return a segment's values of the columns that both tables have."""
    file_ref = segment.file_ref
    column_values = (
        segment.number,
        file_ref.name,
        file_ref.bytes,
        file_ref.sha256,
        segment.rows,
        segment.dim,
    )
    return dict(zip(_SHARED_COLUMNS, column_values, strict=True))


def read_segments(
    connection: Connection, table: type[SegmentRow] | type[StagedSegmentRow] = SegmentRow
) -> list[Segment]:
    """Return the segments of a table, oldest first."""
    columns = (getattr(table, column) for column in _SHARED_COLUMNS)
    rows = connection.execute(select(*columns).order_by(table.number))
    return [
        Segment(number, parse_file_ref(name, size, sha256), num_rows, dim)
        for number, name, size, sha256, num_rows, dim in rows
    ]


def promote_staged(connection: Connection) -> None:
    """Copy the staged segments into the table of segments that readers see."""
    staged = select(*(getattr(StagedSegmentRow, column) for column in _SHARED_COLUMNS))
    connection.execute(insert(SegmentRow).from_select(_SHARED_COLUMNS, staged))
