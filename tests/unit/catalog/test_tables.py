"""The typed models and the migrated schema are equal."""

import sqlite3

from sqlalchemy import create_engine

from mmsearch.catalog.tables import Base


def schema_of(path):
    """Columns, indexes and foreign keys of every table, as SQLite reports them."""
    connection = sqlite3.connect(path)

    def ask(pragma, name):
        return connection.execute(f"PRAGMA {pragma}('{name}')").fetchall()

    def index(name):
        sql = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", [name]).fetchone()
        condition = (sql[0] or "").partition("WHERE")[2].strip()
        return [row[1:] for row in ask("index_xinfo", name)], condition

    schema = {}
    tables = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    full_text = ("words", "trigrams")
    for name, sql in tables.fetchall():
        if name.startswith(full_text):
            continue
        words = " ".join(sql.split())
        indexes = ask("index_list", name)
        schema[name] = {
            "columns": sorted(row[1:] for row in ask("table_xinfo", name)),
            "indexes": sorted(
                (
                    "" if row[1].startswith("sqlite_autoindex") else row[1],
                    row[2:],
                    index(row[1]),
                )
                for row in indexes
            ),
            "foreign_keys": sorted(row[2:] for row in ask("foreign_key_list", name)),
            "autoincrement": "AUTOINCREMENT" in words,
            "check": words.partition("CHECK (")[2].partition("IS NULL)")[0],
        }
    connection.close()
    return schema


def test_table_models_equal_migrated_schema(catalog, path, tmp_path):
    other = tmp_path / "models.sqlite"
    engine = create_engine(f"sqlite:///{other}")
    Base.metadata.create_all(engine)
    engine.dispose()
    assert schema_of(path) == schema_of(other)
    assert set(schema_of(path)) == {*Base.metadata.tables, "sqlite_sequence"}
