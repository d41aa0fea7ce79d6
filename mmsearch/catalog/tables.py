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


BUILT_INDEXES = _table("built_indexes")
FILES = _table("files")
FOLDERS = _table("folders")
GENERATIONS = _table("generations")
IMAGES = _table("images")
ROOTS = _table("roots")
RUNS = _table("runs")
SEGMENTS = _table("segments")
SETTINGS = _table("settings")
SKIPPED_FILES = _table("skipped_files")
STAGED_IMAGES = _table("staged_images")
STAGED_SEGMENTS = _table("staged_segments")
TAGS = _table("tags")
TEXTS = _table("texts")
