"""Stacks of duplicates, written into the catalog of an index without comparing its pictures."""

from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.factories import catalogs


def write_stacks(layout, stacks):
    """Replace the duplicates of an index.

    Args:
        layout: The index.
        stacks: Each a list of groups of near duplicates, which are lists of ids of items.
    """
    with (
        catalogs.open_write(layout, 0, create=False) as catalog,
        write_transaction(catalog._engine) as connection,
    ):
        rows = connection.exec_driver_sql("SELECT id, content_id FROM items").all()
        contents = dict(map(tuple, rows))
        connection.exec_driver_sql("DELETE FROM duplicates")
        for stack in stacks:
            stack_id = min(contents[item_id] for group in stack for item_id in group)
            for group in stack:
                near_id = min(contents[item_id] for item_id in group)
                for item_id in group:
                    connection.exec_driver_sql(
                        "INSERT OR REPLACE INTO duplicates VALUES (?, ?, ?)",
                        (contents[item_id], stack_id, near_id),
                    )
