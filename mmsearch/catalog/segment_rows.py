"""Segments as rows: of those that readers see, and of those that are staged."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from mmsearch.catalog.tables import SegmentRow, StagedSegmentRow
from mmsearch.core.records import Segment
from mmsearch.storage.layout import parse_file_ref

_SHARED_COLUMNS = ("number", "name", "bytes", "sha256", "rows", "dim")


def segment_values(segment: Segment) -> dict[str, Any]:
    """The columns of a segment that both tables have."""
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
    """The segments of a table, oldest first."""
    columns = (getattr(table, column) for column in _SHARED_COLUMNS)
    rows = connection.execute(select(*columns).order_by(table.number))
    return [
        Segment(number, parse_file_ref(name, size, sha256), num_rows, dim)
        for number, name, size, sha256, num_rows, dim in rows
    ]


def promote_staged(connection: Connection) -> None:
    """Put the staged segments beside those that readers see."""
    staged = select(*(getattr(StagedSegmentRow, column) for column in _SHARED_COLUMNS))
    connection.execute(insert(SegmentRow).from_select(_SHARED_COLUMNS, staged))
