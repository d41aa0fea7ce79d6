"""The history of indexing runs: start, end and outcome."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, insert, select, update

from mmsearch.catalog.clock import now
from mmsearch.catalog.generations import insert_row
from mmsearch.catalog.tables import RunRow
from mmsearch.core.records import RunRecord


def begin_run(connection: Connection) -> int:
    """Record the start of a run and return its id."""
    statement = insert(RunRow).values(started_at=now(), outcome="running", counts={})
    return insert_row(connection, statement)


def finish_run(
    connection: Connection, run_id: int, outcome: str, counts: Mapping[str, int]
) -> None:
    """Record the end of a run and its outcome."""
    statement = update(RunRow).where(RunRow.id == run_id)
    connection.execute(statement.values(finished_at=now(), outcome=outcome, counts=dict(counts)))


def last_run(connection: Connection) -> RunRecord | None:
    """Return the latest run; its outcome is ``running`` if no end was recorded."""
    statement = (
        select(RunRow.started_at, RunRow.finished_at, RunRow.outcome, RunRow.counts)
        .order_by(RunRow.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else RunRecord(*row)
