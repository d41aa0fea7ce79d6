"""The schema of a catalog in PostgreSQL, made from that of SQLite so that both cannot differ.

Tables, columns, keys and indexes are read from a database in memory that the migrations of
`mmsearch.catalog.migrations` have created. What SQLite has in another way is written here: the
triggers (one a statement, with transition tables), the columns that hold folded values, the words
of texts, and a few functions. A newer schema adds its tables, columns and indexes, and replaces
the functions and the triggers. The table ``schema_version`` holds the number of the schema, and
that of its revision: what only PostgreSQL has changes with the revision.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

import psycopg

from mmsearch.catalog import postgres_stems
from mmsearch.catalog.database import Database
from mmsearch.catalog.migrations import MIGRATIONS
from mmsearch.catalog.postgres import (
    COUNTED_SETTING,
    PostgresDatabase,
    PostgresPlace,
    connect,
    quoted,
    translated_errors,
)
from mmsearch.catalog.postgres_stems import count_stems
from mmsearch.catalog.schema import migrated_database
from mmsearch.core.errors import Hint, SchemaError, StorageError, UsageError
from mmsearch.storage.layout import SEGMENT_TOKEN_DIGITS, parse_file_ref

OLDEST_SERVER = 140_000
"""Number of the oldest version of PostgreSQL whose SQL is used here."""

VERSION = len(MIGRATIONS)
"""Number of the schema."""

REVISION = 1
"""Number of the revision of what only PostgreSQL has: triggers, functions and extra tables."""

_TYPES = {
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "TEXT": 'TEXT COLLATE "C"',
    "JSON": 'TEXT COLLATE "C"',
    "BLOB": "BYTEA",
}

EXTRA_COLUMNS = {
    "items": tuple(
        (f"{name}_folded", 'TEXT COLLATE "C"') for name in ("camera", "lens", "label", "damage")
    ),
    "assets": (("record_folded", "JSONB"),),
    "texts": (("words", "TSVECTOR NOT NULL"), ("spaceless_text", 'TEXT COLLATE "C"')),
    "suggestions": (("rowid", "BIGINT GENERATED ALWAYS AS IDENTITY"),),
}
"""Columns that only PostgreSQL has, with their types; see `mmsearch.catalog.folding`."""

_EXTRA_INDEXES = (
    "CREATE INDEX texts_words ON texts USING gin (words)",
    "CREATE INDEX texts_spaceless ON texts USING gin (spaceless_text gin_trgm_ops)"
    " WHERE spaceless_text IS NOT NULL",
    # Deletion of an item looks for its tags.
    "CREATE INDEX tags_item_id ON tags (item_id)",
)

_EXTRA_TABLES = (
    "CREATE TABLE schema_version (version BIGINT NOT NULL)",
    # The highest id that each table ever had, as in SQLite's table of this name.
    "CREATE TABLE sqlite_sequence (name TEXT NOT NULL PRIMARY KEY, seq BIGINT NOT NULL)",
)

# What revisions have added; a schema that has it stays as it is.
_REVISED_TABLES = (
    "ALTER TABLE schema_version ADD COLUMN IF NOT EXISTS revision BIGINT NOT NULL DEFAULT 0",
    *postgres_stems.TABLES,
)

# Stems as those of FTS5, without stop words.
_TEXT_SEARCH = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public",
    "CREATE TEXT SEARCH DICTIONARY mmsearch_porter (TEMPLATE = snowball, LANGUAGE = porter)",
    "CREATE TEXT SEARCH CONFIGURATION mmsearch_words (COPY = pg_catalog.simple)",
    "ALTER TEXT SEARCH CONFIGURATION mmsearch_words"
    " ALTER MAPPING REPLACE pg_catalog.simple WITH mmsearch_porter",
)

_FUNCTIONS = (
    """
    CREATE OR REPLACE FUNCTION total_changes() RETURNS BIGINT LANGUAGE sql
    RETURN (SELECT CAST(coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) AS BIGINT)
        FROM pg_catalog.pg_stat_xact_user_tables
        WHERE schemaname = current_schema() AND relname <> 'sqlite_sequence')""",
    """
    CREATE OR REPLACE FUNCTION randomblob(size BIGINT) RETURNS BYTEA LANGUAGE sql
    RETURN substr(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
        || uuid_send(gen_random_uuid()), 1, CAST(size AS INTEGER))""",
    """
    CREATE OR REPLACE FUNCTION instr(whole BYTEA, part BYTEA) RETURNS INTEGER
    LANGUAGE sql IMMUTABLE RETURN position(part IN whole)""",
    """
    CREATE OR REPLACE AGGREGATE total(BIGINT) (SFUNC = int8pl, STYPE = BIGINT, INITCOND = '0')""",
)

# Assets of one content that have a size which no other asset of it has; see the triggers of SQLite.
_FIELDS_OF_ASSETS = """
        IF (SELECT max_item_id FROM field_log) > 0 THEN
            INSERT INTO field_changes (epoch, item_id)
            SELECT DISTINCT epoch, items.id FROM field_log, {rows} AS changed
            JOIN items ON items.content_id = changed.content_id
            WHERE items.id <= max_item_id
            AND EXISTS (SELECT 1 FROM assets WHERE content_id = changed.content_id)
            AND NOT EXISTS (SELECT 1 FROM assets AS other
                WHERE other.content_id = changed.content_id AND other.size = changed.size
                AND other.id NOT IN (SELECT id FROM {rows} AS rows))
            ON CONFLICT DO NOTHING;
        END IF;"""
_CHANGED_ASSETS = """(
            SELECT changed.id, changed.content_id, changed.size
            FROM (SELECT * FROM old_rows UNION ALL SELECT * FROM new_rows) AS changed
            JOIN old_rows AS former ON former.id = changed.id
            JOIN new_rows AS later ON later.id = changed.id
            WHERE former.content_id IS DISTINCT FROM later.content_id
                OR former.size <> later.size)"""
_FIELDS_OF_TAGS = """
        INSERT INTO field_changes (epoch, item_id)
        SELECT DISTINCT epoch, item_id FROM field_log, {rows} AS changed
        WHERE item_id <= max_item_id ON CONFLICT DO NOTHING;"""

# Each adds up what a statement changed before it writes, so that many rows cost one update.
_TRIGGER_FUNCTIONS = {
    "assets_inserted": f"""
        IF current_setting('{COUNTED_SETTING}', true) IS DISTINCT FROM 'on' THEN
            UPDATE contents SET asset_count = asset_count + added.number
            FROM (SELECT content_id, count(*) AS number FROM new_rows
                  WHERE content_id IS NOT NULL GROUP BY content_id) AS added
            WHERE contents.id = added.content_id;
        END IF;
        DELETE FROM parts USING sources WHERE parts.source_id = sources.id AND kind = 'folder'
            AND sources.id IN (SELECT source_id FROM new_rows);
        UPDATE items SET must_merge = 1 WHERE content_id IN
            (SELECT content_id FROM new_rows WHERE metadata IS NOT NULL);"""  # noqa: S608
    + _FIELDS_OF_ASSETS.format(rows="new_rows"),
    "assets_deleted": """
        UPDATE contents SET asset_count = asset_count - removed.number
        FROM (SELECT content_id, count(*) AS number FROM old_rows
              WHERE content_id IS NOT NULL GROUP BY content_id) AS removed
        WHERE contents.id = removed.content_id;
        DELETE FROM parts USING sources WHERE parts.source_id = sources.id AND kind = 'folder'
            AND sources.id IN (SELECT source_id FROM old_rows);
        UPDATE items SET must_merge = 1 WHERE content_id IN
            (SELECT content_id FROM old_rows WHERE metadata IS NOT NULL);"""  # noqa: S608
    + _FIELDS_OF_ASSETS.format(rows="old_rows"),
    "assets_changed": """
        UPDATE contents SET asset_count = asset_count + changed.number
        FROM (SELECT content_id, CAST(sum(number) AS BIGINT) AS number FROM
                (SELECT content_id, 1 AS number FROM new_rows
                 UNION ALL SELECT content_id, -1 FROM old_rows) AS rows
              WHERE content_id IS NOT NULL GROUP BY content_id HAVING sum(number) <> 0) AS changed
        WHERE contents.id = changed.content_id;
        DELETE FROM parts USING sources WHERE parts.source_id = sources.id AND kind = 'folder'
            AND sources.id IN (SELECT source_id FROM new_rows UNION SELECT source_id FROM old_rows);
        UPDATE items SET must_merge = 1 WHERE content_id IN
            (SELECT unnest(ARRAY[former.content_id, later.content_id])
             FROM old_rows AS former JOIN new_rows AS later USING (id)
             WHERE former.metadata IS DISTINCT FROM later.metadata
                OR (former.content_id IS DISTINCT FROM later.content_id
                    AND later.metadata IS NOT NULL));"""  # noqa: S608
    + _FIELDS_OF_ASSETS.format(rows=_CHANGED_ASSETS),
    "contents_counted": """
        UPDATE items SET is_live = CAST(later.asset_count > 0 AS INTEGER)
        FROM new_rows AS later JOIN old_rows AS former USING (id)
        WHERE items.content_id = later.id
            AND (former.asset_count > 0) <> (later.asset_count > 0);""",
    "texts_inserted": """
        UPDATE embeddings SET stale = 1 WHERE stale = 0 AND item_id IN
            (SELECT item_id FROM new_rows WHERE made_by IS NULL);"""  # noqa: S608 - our names
    + postgres_stems.INSERTED,
    "texts_deleted": """
        UPDATE embeddings SET stale = 1 WHERE stale = 0 AND item_id IN
            (SELECT item_id FROM old_rows WHERE made_by IS NULL);"""  # noqa: S608 - our names
    + postgres_stems.DELETED,
    "tags_inserted": _FIELDS_OF_TAGS.format(rows="new_rows"),
    "tags_deleted": _FIELDS_OF_TAGS.format(rows="old_rows"),
    "tags_changed": _FIELDS_OF_TAGS.format(
        rows="(SELECT * FROM old_rows UNION ALL SELECT * FROM new_rows)"
    ),
}

# A row at a time, because the rest of the updates then costs nothing: few change a field.
_ROW_TRIGGERS = {
    "fields_of_changed_items": (
        "items",
        (
            *("content_id", "width", "height", "format", "taken_at", "taken_from", "camera"),
            *("lens", "rating", "label", "damage", "latitude", "longitude"),
        ),
        "items.id = NEW.id",
    ),
    "fields_of_changed_contents": ("contents", ("kind",), "items.content_id = NEW.id"),
}
"""Table, columns, and the condition on the items whose fields change, by the name of a trigger."""

_EVENTS = {
    "inserted": "AFTER INSERT ON {} REFERENCING NEW TABLE AS new_rows",
    "deleted": "AFTER DELETE ON {} REFERENCING OLD TABLE AS old_rows",
    "changed": "AFTER UPDATE ON {} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "counted": "AFTER UPDATE ON {} REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
}

# Ids that no row has any more are never used again.
_SEQUENCE_TRIGGER = """
    UPDATE sqlite_sequence AS known SET seq = added.seq
    FROM (SELECT max({key}) AS seq FROM new_rows) AS added
    WHERE known.name = TG_TABLE_NAME AND known.seq < added.seq;
    INSERT INTO sqlite_sequence (name, seq)
    SELECT TG_TABLE_NAME, max({key}) FROM new_rows HAVING max({key}) IS NOT NULL
    ON CONFLICT DO NOTHING;"""

# The server finds those that fail faster than Python could parse all names.
_INVALID_FILE_NAMES = " UNION ALL ".join(
    f"SELECT name, bytes, sha256 FROM {table} WHERE name !~ '^{pattern}$'"  # noqa: S608 - our names
    " OR bytes < 0 OR length(sha256) <> 64"
    for table, pattern in (
        ("segments", f"segments/[0-9]{{6,}}(-[0-9a-f]{{{SEGMENT_TOKEN_DIGITS}}})?[.](vectors|npz)"),
        ("built_indexes", "ann/[0-9]{6}[0-9a-z_]*[.][a-z0-9_]+"),
        ("derived_files", f"derived/[0-9]{{6,}}-[0-9a-f]{{{SEGMENT_TOKEN_DIGITS}}}[.]jsonl[.]gz"),
    )
)


_NEWEST = (VERSION, REVISION)


def check_readable(db: Database, place: PostgresPlace) -> None:
    """Raise an error unless the schema is the newest one that this code knows.

    Raises:
        SchemaError: The schema is newer, or it is older and a writer must migrate it.
        StorageError: There is no catalog in the schema.
    """
    version = read_version(db, place)
    if version is None:
        raise _missing_error(place)
    if version != _NEWEST:
        raise _version_error(place, version)
    check_file_names(db)


def check_file_names(db: Database) -> None:
    """Raise an error unless all names of vector files in the catalog are valid.

    Raises:
        DamagedFileError: A name is not one that a writer creates, for example ``../../photo.jpg``.
    """
    for row in db.query(_INVALID_FILE_NAMES):
        parse_file_ref(*row)


def read_version(db: Database, place: PostgresPlace) -> tuple[int, int] | None:
    """Return the numbers of the schema and of its revision; None if there is no catalog."""
    found = db.query(
        "SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'schema_version'",
        [place.schema],
    )
    if not found:
        return None
    # The first revision had no number.
    rows = db.query("SELECT * FROM schema_version")
    if not rows:
        return None
    version, *revision = rows[0]
    return int(version), int(revision[0]) if revision else 0


def _missing_error(place: PostgresPlace) -> StorageError:
    return StorageError(
        f"There is no catalog in the schema {place.schema!r} of {place.url}.",
        "Index pictures first, or correct the URL in index.toml.",
    )


def _version_error(place: PostgresPlace, version: tuple[int, int]) -> SchemaError:
    catalog = place.label[0].upper() + place.label[1:]
    found, expected = (f"{number}.{revision}" for number, revision in (version, _NEWEST))
    if version > _NEWEST:
        return SchemaError(
            f"{catalog} has schema {found}, of a newer mmsearch;"
            f" this one knows schemas up to {expected}.",
            "Upgrade mmsearch.",
            found=version[0],
            expected=VERSION,
        )
    return SchemaError(
        f"{catalog} has schema {found}, of an older mmsearch; this one reads {expected}.",
        Hint("{} once, which upgrades it.", "Call index.status()", "Run 'mmsearch status'"),
        found=version[0],
        expected=VERSION,
    )


def migrate(
    connection: psycopg.Connection[object], place: PostgresPlace, *, create: bool = False
) -> None:
    """Create the schema, or add to it what a newer version has; all in one transaction.

    Args:
        connection: A connection without a transaction.
        place: The catalog.
        create: Create the schema if it is missing.

    Raises:
        SchemaError: The schema is newer.
        StorageError: There is no catalog, or the server is too old.
    """
    _check_version(connection)
    db = PostgresDatabase(connection, place)
    with translated_errors(place), connection.transaction():
        # Writers that start at once wait for each other here.
        db.query("SELECT pg_advisory_xact_lock(hashtextextended(?, 1))", [place.schema])
        version = read_version(db, place)
        if version is None:
            if not create:
                raise _missing_error(place)
            # The right to create schemas is not needed if there is one.
            if not db.query("SELECT 1 FROM pg_namespace WHERE nspname = ?", [place.schema]):
                db.query(f"CREATE SCHEMA {quoted(place.schema)}")
        if version == _NEWEST:
            return
        if version is not None and version > _NEWEST:
            raise _version_error(place, version)
        # Literal percent signs and colons are SQL here, so psycopg reads no parameters.
        for statement in _statements(version[0] if version else None):
            connection.execute(statement.encode())
        count_stems(db)
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (%s, %s)", _NEWEST)


def _check_version(connection: psycopg.Connection[object]) -> None:
    number = connection.info.server_version
    if number < OLDEST_SERVER:
        raise StorageError(
            f"PostgreSQL {number // 10_000} cannot keep a catalog.",
            f"Use version {OLDEST_SERVER // 10_000} or newer.",
        )


def _statements(version: int | None, newest: int = VERSION) -> Iterator[str]:
    """Yield the statements that make a newer schema of an older one, or of none.

    Migrations of SQLite that change rows, or drop tables or columns, need statements here, too.
    """
    if version is None:
        yield from _TEXT_SEARCH
        yield from _EXTRA_TABLES
    yield from _REVISED_TABLES
    known_indexes = {} if version is None else _indexes(version)
    indexes = _indexes(newest)
    yield from (f"DROP INDEX {name}" for name, _ in known_indexes.items() - indexes.items())
    yield from _table_statements({} if version is None else dict(_tables(version)), newest)
    yield from (indexes[name] for name, _ in sorted(indexes.items() - known_indexes.items()))
    if version is None:
        yield from _EXTRA_INDEXES
        yield "INSERT INTO spaces (encoder, state) VALUES ('', 'serving')"
    yield from _FUNCTIONS
    yield from _trigger_statements(newest)


def _table_statements(known: Mapping[str, _TableDefinition], newest: int) -> Iterator[str]:
    """Yield the statements that add missing tables and columns to the known ones."""
    for name, definition in _tables(newest):
        if name not in known:
            yield definition.create_statement(name)
        else:
            for column, declaration in definition.columns.items():
                if column not in known[name].columns:
                    yield f"ALTER TABLE {name} ADD COLUMN {column} {declaration}"


class _TableDefinition:
    """Columns with their declarations, and constraints, of one table."""

    def __init__(self) -> None:
        self.columns: dict[str, str] = {}
        self.constraints: list[str] = []

    def create_statement(self, name: str) -> str:
        columns = [f"{column} {declaration}" for column, declaration in self.columns.items()]
        return f"CREATE TABLE {name} ({', '.join([*columns, *self.constraints])})"


@cache
def _tables(version: int) -> tuple[tuple[str, _TableDefinition], ...]:
    """Return the tables of a schema, those first that others refer to."""
    with migrated_database(MIGRATIONS[:version]) as db:
        statements = dict(
            db.query(
                "SELECT name, sql FROM sqlite_master WHERE sql GLOB 'CREATE TABLE [a-z]*'"
                " AND name <> 'sqlite_sequence'"
            )
        )
        found = {name: _read_table(db, name, sql) for name, sql in statements.items()}
        referred = {
            name: {row[2] for row in db.query(f"PRAGMA foreign_key_list({name})")} for name in found
        }
    ordered: dict[str, _TableDefinition] = {}
    while len(ordered) < len(found):
        for name, table in found.items():
            if name not in ordered and referred[name] <= {*ordered, name}:
                ordered[name] = table
    return tuple(ordered.items())


def table_order() -> tuple[str, ...]:
    """Return the names of the tables, those first that others refer to."""
    return tuple(name for name, _ in _tables(VERSION))


def _read_table(db: Database, name: str, statement: str) -> _TableDefinition:
    """Return a table of SQLite as PostgreSQL's, given the statement that has created it."""
    table = _TableDefinition()
    keys = []
    for _, column, declared, not_null, default, key in db.query(f"PRAGMA table_info({name})"):
        declaration = _TYPES[declared] + (" NOT NULL" if not_null else "")
        if default is not None:
            declaration += f" DEFAULT {_default(default)}"
        table.columns[column] = declaration
        if key:
            keys.append((key, column, declared))
    columns = [column for _, column, _ in sorted(keys)]
    if len(keys) == 1 and keys[0][2] == "INTEGER":
        table.columns[columns[0]] += " GENERATED BY DEFAULT AS IDENTITY"
    if columns:
        table.constraints.append(f"PRIMARY KEY ({', '.join(columns)})")
    for _, index, is_unique, origin, _ in db.query(f"PRAGMA index_list({name})"):
        if is_unique and origin == "u":
            names = [row[2] for row in db.query(f"PRAGMA index_info({index})")]
            table.constraints.append(f"UNIQUE ({', '.join(names)})")
    for _, _, target, own, other, _, on_delete, _ in db.query(f"PRAGMA foreign_key_list({name})"):
        table.constraints.append(
            f"FOREIGN KEY ({own}) REFERENCES {target} ({other}) ON DELETE {on_delete}"
        )
    table.constraints += re.findall(r"CONSTRAINT \w+ CHECK \(.*\)", statement)
    table.columns |= EXTRA_COLUMNS.get(name, ())
    return table


def _default(value: str) -> str:
    """Return the default of a column, which may be an empty BLOB."""
    return "''" if value == "x''" else value


@cache
def _indexes(version: int) -> Mapping[str, str]:
    """Return the statements of the indexes that are no constraints: both databases know them."""
    with migrated_database(MIGRATIONS[:version]) as db:
        return dict(
            db.query(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
                " ORDER BY name"
            )
        )


def _trigger_statements(version: int) -> Iterator[str]:
    bodies = dict(_TRIGGER_FUNCTIONS)
    keys = {
        name: next(c for c, text in table.columns.items() if "IDENTITY" in text)
        for name, table in _tables(version)
        if any("BY DEFAULT AS IDENTITY" in text for text in table.columns.values())
    }
    for name, body in bodies.items():
        table, _, event = name.rpartition("_")
        yield from _trigger(name, table, _EVENTS[event], body)
    for table, key in keys.items():
        body = _SEQUENCE_TRIGGER.format(key=key)
        yield from _trigger(f"{table}_numbered", table, _EVENTS["inserted"], body)
    for name, (table, columns, condition) in _ROW_TRIGGERS.items():
        former, later = (", ".join(f"{row}.{name}" for name in columns) for row in ("OLD", "NEW"))
        yield _function(
            name,
            "INSERT INTO field_changes (epoch, item_id) SELECT epoch, items.id"  # noqa: S608
            f" FROM field_log, items WHERE {condition} AND items.id <= max_item_id"
            " ON CONFLICT DO NOTHING;",
        )
        yield (
            f"CREATE OR REPLACE TRIGGER {name} AFTER UPDATE OF {', '.join(columns)} ON {table}"
            f" FOR EACH ROW WHEN (ROW({former}) IS DISTINCT FROM ROW({later}))"
            f" EXECUTE FUNCTION {name}()"
        )


def _function(name: str, body: str, options: str = "") -> str:
    return (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS TRIGGER LANGUAGE plpgsql {options} AS"
        f" $body$ BEGIN {body} RETURN NULL; END $body$"
    )


def _trigger(name: str, table: str, event: str, body: str) -> Iterator[str]:
    # A plan that is kept would be one for as few rows as there were at first.
    yield _function(name, body, "SET plan_cache_mode = force_custom_plan")
    yield (
        f"CREATE OR REPLACE TRIGGER {name} {event.format(table)}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
    )


def check_server(place: PostgresPlace) -> str:
    """Check that a server can have a new catalog; return what it is.

    Raises:
        StorageError: The server cannot be reached, is too old, or lacks a right or an extension.
        UsageError: The schema has a catalog already.
    """
    with connect(place) as connection:
        db = PostgresDatabase(connection, place)
        _check_version(connection)
        if read_version(db, place) is not None:
            raise UsageError(
                f"The schema {place.schema!r} of {place.url} has the catalog of an index.",
                "Choose another name for the index, or remove that one.",
            )
        ((may_create, has_trigrams, version),) = db.query(
            "SELECT has_database_privilege(current_database(), 'CREATE')"
            " OR EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = ?), EXISTS"
            " (SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'),"
            " current_setting('server_version')",
            [place.schema],
        )
    if not may_create:
        raise StorageError(
            f"This user may not create schemas in the database {place.url}.",
            "Grant it CREATE on the database.",
        )
    if not has_trigrams:
        raise StorageError(
            f"The server of {place.url} lacks the extension pg_trgm.",
            "Install the package that has it, such as postgresql-contrib.",
        )
    return f"PostgreSQL {version.split()[0]}, schema {place.schema!r}"


def drop(place: PostgresPlace) -> None:
    """Delete the schema of an index with all it holds; do nothing if it holds no catalog.

    Raises:
        StorageError: The server cannot be reached.
    """
    with connect(place) as connection:
        db = PostgresDatabase(connection, place)
        if read_version(db, place) is not None:
            db.query(f"DROP SCHEMA {quoted(place.schema)} CASCADE")
