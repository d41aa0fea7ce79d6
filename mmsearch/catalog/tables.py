"""Tables of a catalog for SQLAlchemy, with the columns that the migrations create."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

from mmsearch.catalog.schema import table_columns


class JsonText(TypeDecorator[Any]):
    """A value that is stored as JSON in a column of text, also in PostgreSQL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """Return a value as JSON."""
        return json.dumps(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Return the value of stored JSON."""
        return None if value is None else json.loads(value)


METADATA = MetaData()
_TYPES = {
    "INTEGER": BigInteger,
    "REAL": Double,
    "TEXT": Text,
    "BLOB": LargeBinary,
    "JSON": JsonText,
}


def _table(name: str) -> Table:
    return Table(
        name,
        METADATA,
        *(
            Column(column.name, _TYPES[column.type](), primary_key=column.is_key)
            for column in table_columns()[name]
        ),
    )


ASSETS = _table("assets")
BUILT_INDEXES = _table("built_indexes")
CONTENTS = _table("contents")
DERIVED = _table("derived")
DERIVED_FILES = _table("derived_files")
DUPLICATES = _table("duplicates")
EMBEDDINGS = _table("embeddings")
FIELD_CHANGES = _table("field_changes")
FIELD_LOG = _table("field_log")
GENERATIONS = _table("generations")
ITEMS = _table("items")
PARTS = _table("parts")
RUNS = _table("runs")
SEGMENTS = _table("segments")
SETTINGS = _table("settings")
SKIPPED_FILES = _table("skipped_files")
SOURCES = _table("sources")
SPACES = _table("spaces")
STALE_ROWS = _table("stale_rows")
SUGGESTIONS = _table("suggestions")
TAGS = _table("tags")
TEXTS = _table("texts")
