"""Segments as rows: of those that readers see, and of those that are staged."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from mmsearch.catalog.tables import SegmentRow, StagedSegmentRow
from mmsearch.core.records import Segment
from mmsearch.storage.layout import stored_stamp

_SHARED = ("number", "name", "bytes", "sha256", "rows", "dim")


def segment_values(segment: Segment) -> dict[str, Any]:
    """The columns of a segment that both tables have."""
    stamp = segment.stamp
    values = (segment.number, stamp.name, stamp.bytes, stamp.sha256, segment.rows, segment.dim)
    return dict(zip(_SHARED, values, strict=True))


def read_segments(
    connection: Connection, table: type[SegmentRow] | type[StagedSegmentRow] = SegmentRow
) -> list[Segment]:
    """The segments of a table, oldest first."""
    columns = (getattr(table, column) for column in _SHARED)
    rows = connection.execute(select(*columns).order_by(table.number))
    return [
        Segment(number, stored_stamp(name, size, sha256), count, dim)
        for number, name, size, sha256, count, dim in rows
    ]


def show_staged(connection: Connection) -> None:
    """Put the staged segments beside those that readers see."""
    staged = select(*(getattr(StagedSegmentRow, column) for column in _SHARED))
    connection.execute(insert(SegmentRow).from_select(_SHARED, staged))
