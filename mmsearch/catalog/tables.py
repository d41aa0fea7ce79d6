"""Tables of a catalog for SQLAlchemy, with the columns that the migrations create."""

from __future__ import annotations

from sqlalchemy import JSON, REAL, Column, Integer, LargeBinary, MetaData, Table, Text

from mmsearch.catalog.schema import table_columns

_METADATA = MetaData()
_TYPES = {"INTEGER": Integer, "REAL": REAL, "TEXT": Text, "BLOB": LargeBinary, "JSON": JSON}


def _table(name: str) -> Table:
    return Table(
        name,
        _METADATA,
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
