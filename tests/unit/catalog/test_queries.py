"""Frequent queries use an index and few statements."""

import numpy as np
import pytest
from sqlalchemy import event

from mmsearch.catalog.connection import ReadConnection
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, indexed


@pytest.fixture
def statements(catalog, monkeypatch):
    """List of statements and parameters sent from now on, with and without SQLAlchemy."""
    sent = []

    def listen(method):
        def run(db, statement, parameters=()):
            sent.append((statement, parameters))
            return method(db, statement, parameters)

        return run

    for name in ("query", "iterate"):
        monkeypatch.setattr(ReadConnection, name, listen(getattr(ReadConnection, name)))
    event.listen(
        catalog._engine,
        "before_cursor_execute",
        lambda connection, cursor, sql, parameters, context, many: sent.append((sql, parameters)),
    )
    return sent


def explain(catalog, statement):
    sql, values = statement
    values = values if isinstance(values, dict) else tuple(values)
    with catalog._engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values).all()
    return [row[3] for row in rows]


@pytest.mark.parametrize("subpath", [b"", b"2020"])
def test_list_files_under_uses_path_index_without_table_scan(catalog, root, statements, subpath):
    catalog.list_files_under(root.id, subpath)
    (statement,) = [sent for sent in statements if "assets" in sent[0]]
    plan = explain(catalog, statement)
    searches = [step for step in plan if step.startswith("SEARCH assets")]
    assert searches
    assert all("source_id=? AND key" in step for step in searches) or not subpath
    assert not any(step.startswith("SCAN") for step in plan)


def test_failures_and_deleted_ids_scan_only_dead_images_and_segments(catalog, statements):
    catalog.failures()
    catalog.file_count()
    with catalog.snapshot() as snapshot:
        assert snapshot.deleted_ids.tolist() == []
        assert snapshot.pictures == 0
    plans = [explain(catalog, sent) for sent in statements if sent[0].startswith("SELECT")]
    steps = [step for plan in plans for step in plan]
    scans = {step.replace("COVERING ", "") for step in steps if step.startswith("SCAN")}
    assert scans == {"SCAN items USING INDEX items_dead", "SCAN segments"}


def test_snapshot_records_of_1000_ids_runs_four_selects(catalog, root, statements):
    catalog.commit_shard(encoded(catalog, root, {b"%d" % n: f"{n}" for n in range(1000)}))
    statements.clear()
    with catalog.snapshot() as snapshot:
        snapshot.records(range(1, 1001))
    assert len([sql for sql, _ in statements if sql.startswith("SELECT")]) == 1 + 3
    assert all(len(values) < 999 for _, values in statements)
    plans = [explain(catalog, sent) for sent in list(statements) if "json_each" in sent[0]]
    steps = [step for plan in plans for step in plan]
    assert {step for step in steps if step.startswith("SCAN")} == {
        "SCAN json_each VIRTUAL TABLE INDEX 1:"
    }


def test_has_texts_and_has_text_mask_search_texts_by_index(catalog, root, statements):
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
    statements.clear()
    with catalog.snapshot() as snapshot:
        assert not snapshot.has_texts
        assert snapshot.has_text_mask(np.array([1])).tolist() == [False]
    asked = [sent for sent in statements if "filename" in sent[0]]
    steps = [step for each in asked for step in explain(catalog, each)]
    assert [step for step in steps if " texts " in step] == [
        "SEARCH texts USING INDEX texts_said (source=?)",
        "SEARCH texts USING INDEX texts_item_id (item_id=?)",
    ]


def test_commit_shard_of_512_pictures_runs_under_24_statements(catalog, root, statements):
    shard = encoded(catalog, root, {b"%d" % number: f"{number}" for number in range(512)})
    catalog.commit_shard(shard)
    assert len(statements) < 24
    assert catalog.file_count() == 512


def test_snapshot_with_only_generation_read_runs_one_select(catalog, root, statements):
    catalog.commit_shard(encoded(catalog, root, {b"a": "a"}))
    catalog.commit_shard(indexed(root, {b"b": "a"}))
    assert list(catalog.find_item_ids([digest_of("a")] * 3).values()) == [1]
    statements.clear()
    with catalog.snapshot() as snapshot:
        assert snapshot.generation == 2
    assert len([sql for sql, _ in statements if sql.startswith("SELECT")]) == 1
