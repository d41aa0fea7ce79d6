"""Fragments of SQL in which SQLite and PostgreSQL differ.

All statements that read a catalog are written once, in the SQL that both databases know, with these
fragments in them. Parameters are ``?`` or ``:name`` on both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from mmsearch.core.query import fold_text

FOLD_FUNCTION = "mmsearch_fold"
"""Name of the SQL function of SQLite that is `mmsearch.catalog.rows.fold_text`."""


class _Reader(Protocol):
    def query(self, statement: str, parameters: Any = ..., /) -> list[tuple[Any, ...]]: ...


class Dialect(Protocol):
    """The SQL of one database.

    Attributes:
        name: ``sqlite`` or ``postgresql``.
        in_ids: What follows a column of integers that must be in a JSON list, the parameter ``?``.
        unindexed: What precedes a column that no index may look up.
        like: LIKE that ignores the case of ASCII letters.
        ordered_join: JOIN that reads the tables in the order in which they are named.
        words_from: What follows FROM to read the texts with `match_words`.
        words_of_texts: What joins ``texts`` for `match_words`.
        words_order: The column by which texts with words are read in the order of their ids.
        stem_tables: Statements that make `stems` and `places_of_stem` readable.
        stems: Table of all stems in texts: ``term``, and in ``doc`` the number of its texts.
        members: Table ``member`` of the metadata of ``place``: ``key``, ``type`` and ``value``.
    """

    name: str
    in_ids: str
    unindexed: str
    like: str
    ordered_join: str
    words_from: str
    words_of_texts: str
    words_order: str
    stem_tables: Sequence[str]
    stems: str
    members: str

    def ids(self, parameter: str) -> str:
        """Return `in_ids` with another parameter."""

    def texts(self, parameter: str) -> str:
        """Return what follows a column of text that must be in a JSON list, a parameter."""

    def id_rows(self, parameter: str) -> str:
        """Return a table whose column ``value`` has the integers of a JSON list."""

    def text_rows(self, parameter: str) -> str:
        """Return a table whose column ``value`` has the texts of a JSON list."""

    def list_of(self, expression: str) -> str:
        """Return an aggregate that is the JSON list of the values of an expression."""

    def position(self, part: str, whole: str) -> str:
        """Return where a text or bytes have a part, counted from 1; 0 if they do not."""

    def bytes_as_text(self, column: str) -> str:
        """Return bytes as a text in which ASCII characters are themselves."""

    def has_digit(self, column: str) -> str:
        """Return the condition that a text has a digit."""

    def matches_glob(self, text: str, parameter: str) -> str:
        """Return whether a text matches a GLOB pattern of `Token.glob`, as an integer."""

    def local_time(self, nanoseconds: str) -> str:
        """Return a time since 1970 as ISO 8601 in local time, to the second."""

    def time_of_day_s(self, column: str) -> str:
        """Return a time in ISO 8601 as seconds since 1970; NULL for a date without a time."""

    def folded(self, column: str) -> str:
        """Return a column of ``items`` as `fold_text` folds it."""

    def member_text(self, value: str) -> str:
        """Return the folded text of a member of metadata that is a text."""

    def member_number(self, value: str) -> str:
        """Return the number of a member of metadata that is a number."""

    def member_has(self, value: str, parameter: str) -> str:
        """Return the condition that a member of metadata is a list with a folded text."""

    def match_words(self, parameter: str) -> str:
        """Return the condition that a text has the words of a `word_query`."""

    def word_query(self, phrases: Iterable[str]) -> str:
        """Return a query for texts with one of several phrases, compared by stems."""

    def has_trigram(self, pattern: str, query: str) -> tuple[str, str]:
        """Return the table and the condition of texts without spaces that have a trigram."""

    def has_substring(self, pattern: str) -> str:
        """Return the condition that a text without spaces matches a `spaceless_pattern`."""

    def spaceless_pattern(self, pattern: str) -> str:
        """Return a LIKE pattern for texts without spaces."""

    def first_text_with(self, parameter: str) -> str:
        """Return a query for the id of the first text with a stem."""

    def places_of_stem(self) -> str:
        """Return a table with the first places of ``:stem``: ``doc`` and ``place``, from 0.

        It has at most ``:limit`` rows.
        """

    def iter_places(
        self, db: _Reader, start: str, upper: str, limit: int
    ) -> Iterator[tuple[str, int, int]]:
        """Yield the first stems from ``start`` to below ``upper``, each with a text and a place."""

    def next_id(self, table: str, column: str) -> str:
        """Return the first id of a table that no row ever had."""


def quote(value: str) -> str:
    """Return a quoted FTS5 string, in which nothing is an operator."""
    return '"' + value.replace('"', '""') + '"'


class SqliteDialect:
    """The SQL of SQLite, with its modules json1 and FTS5."""

    name = "sqlite"
    in_ids = "IN (SELECT value FROM json_each(?))"
    unindexed = "+"
    like = "LIKE"
    ordered_join = "CROSS JOIN"
    words_from = "words JOIN texts ON texts.id = words.rowid"
    words_of_texts = "CROSS JOIN words ON words.rowid = texts.id"
    words_order = "words.rowid"
    # https://www.sqlite.org/fts5.html#the_fts5vocab_virtual_table_module
    stem_tables: Sequence[str] = (
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.stems USING fts5vocab(main, words, row)",
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.places USING fts5vocab(main, words, instance)",
    )
    stems = "temp.stems"
    members = (
        "json_each(CASE WHEN json_valid(place.record) THEN place.record ELSE '{}' END) AS member"
    )

    def ids(self, parameter: str) -> str:
        return f"IN (SELECT value FROM json_each({parameter}))"  # noqa: S608 - our own names

    texts = ids

    def id_rows(self, parameter: str) -> str:
        return f"json_each({parameter})"

    text_rows = id_rows

    def list_of(self, expression: str) -> str:
        return f"json_group_array({expression})"

    def position(self, part: str, whole: str) -> str:
        return f"instr({whole}, {part})"

    def bytes_as_text(self, column: str) -> str:
        return f"CAST({column} AS TEXT)"

    def has_digit(self, column: str) -> str:
        return f"{column} GLOB '*[0-9]*'"

    def matches_glob(self, text: str, parameter: str) -> str:
        return f"{text} GLOB {parameter}"

    def local_time(self, nanoseconds: str) -> str:
        seconds = f"{nanoseconds} / 1000000000"
        return f"strftime('%Y-%m-%dT%H:%M:%S', {seconds}, 'unixepoch', 'localtime')"

    def time_of_day_s(self, column: str) -> str:
        return (
            f"CASE WHEN strftime('%H:%M:%S', {column}) <> '00:00:00'"
            f" THEN CAST(strftime('%s', {column}) AS INTEGER) END"
        )

    def folded(self, column: str) -> str:
        return f"{FOLD_FUNCTION}({column})"

    member_text = folded

    def member_number(self, value: str) -> str:
        return value

    def member_has(self, value: str, parameter: str) -> str:
        return (
            f"EXISTS (SELECT 1 FROM json_each({value}) AS element"  # noqa: S608 - our own names
            f" WHERE {FOLD_FUNCTION}(element.value) = {parameter})"
        )

    def match_words(self, parameter: str) -> str:
        return f"words MATCH {parameter}"

    def word_query(self, phrases: Iterable[str]) -> str:
        return " OR ".join(map(quote, phrases))

    def has_trigram(self, pattern: str, query: str) -> tuple[str, str]:
        table = "trigrams JOIN texts ON texts.id = trigrams.rowid"
        return table, f"trigrams MATCH {query}"

    def has_substring(self, pattern: str) -> str:
        return f"texts.spaceless = 1 AND texts.text LIKE {pattern} ESCAPE '\\'"

    def spaceless_pattern(self, pattern: str) -> str:
        return pattern

    def first_text_with(self, parameter: str) -> str:
        return f"SELECT doc FROM temp.places WHERE term = {parameter} LIMIT 1"  # noqa: S608

    def places_of_stem(self) -> str:
        return (
            "(SELECT doc, offset AS place FROM temp.places WHERE term = :stem LIMIT :limit)"
            " AS found"
        )

    def iter_places(
        self, db: _Reader, start: str, upper: str, limit: int
    ) -> Iterator[tuple[str, int, int]]:
        # One step from stem to stem: frequent ones have many places.
        for _ in range(limit):
            rows = db.query(
                "SELECT term, doc, offset FROM temp.places WHERE term >= ? AND term < ? LIMIT 1",
                [start, upper],
            )
            if not rows:
                return
            term, text_id, place = rows[0]
            yield term, text_id, place
            # FTS5 looks for the first term of a range, but not for the first one above another.
            start = term + "\0"

    def next_id(self, table: str, column: str) -> str:
        # sqlite_sequence holds the highest number that an AUTOINCREMENT column ever had.
        return f"(SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = '{table}')"  # noqa: S608


# The table of stems lags behind: see `mmsearch.catalog.postgres_stems`.
POSTGRES_STEM_CHANGES = (
    'SELECT word COLLATE "C" AS term, ndoc AS doc FROM'
    " ts_stat('SELECT words FROM texts WHERE id > (SELECT upto FROM counted_texts)')"
    " UNION ALL SELECT word COLLATE \"C\", -ndoc FROM ts_stat('SELECT words FROM uncounted_texts')"
)

_TEXT_CONFIG = "'mmsearch_words'"


class PostgresDialect:
    """The SQL of PostgreSQL 13 and newer.

    Texts have the collation ``C``, so that they are ordered by bytes and only ASCII letters have a
    case, as in SQLite. What SQLite folds with a function is folded in columns of its own, and the
    stems of a text are in ``texts.words``; see `mmsearch.catalog.folding`.
    """

    name = "postgresql"
    # A join: an array that is no constant would be searched from its start for each row.
    in_ids = "IN (SELECT unnest(CAST(translate(?, '[]', '{}') AS BIGINT[])))"
    unindexed = ""
    like = "ILIKE"
    ordered_join = "JOIN"
    words_from = "texts"
    words_of_texts = ""
    words_order = "texts.id"
    stem_tables: Sequence[str] = ()
    stems = (
        "(SELECT term, CAST(sum(doc) AS BIGINT) AS doc"  # noqa: S608 - our own names
        f" FROM (SELECT term, doc FROM stems UNION ALL {POSTGRES_STEM_CHANGES}) AS counts"
        " GROUP BY term HAVING sum(doc) > 0) AS stems"
    )
    members = (
        "(SELECT key, value, CASE jsonb_typeof(value) WHEN 'string' THEN 'text'"
        " WHEN 'number' THEN 'real' ELSE jsonb_typeof(value) END AS type"
        " FROM jsonb_each(coalesce(place.record_folded, CAST('{}' AS jsonb)))) AS member"
    )

    def ids(self, parameter: str) -> str:
        return self.in_ids.replace("?", parameter)

    def texts(self, parameter: str) -> str:
        return f"= ANY (ARRAY(SELECT jsonb_array_elements_text(CAST({parameter} AS jsonb))))"

    def id_rows(self, parameter: str) -> str:
        return f"unnest(CAST(translate({parameter}, '[]', '{{}}') AS BIGINT[])) AS listed(value)"

    def text_rows(self, parameter: str) -> str:
        return f"jsonb_array_elements_text(CAST({parameter} AS jsonb)) AS listed(value)"

    def list_of(self, expression: str) -> str:
        return f"coalesce(CAST(json_agg({expression}) AS TEXT), '[]')"

    def position(self, part: str, whole: str) -> str:
        return f"position({part} IN {whole})"

    def bytes_as_text(self, column: str) -> str:
        return f"encode({column}, 'escape')"

    def has_digit(self, column: str) -> str:
        return f"{column} ~ '[0-9]'"

    def matches_glob(self, text: str, parameter: str) -> str:
        return f"CAST({text} ~ replace({parameter}, '*', '') AS INTEGER)"

    def local_time(self, nanoseconds: str) -> str:
        # The connection has set the time zone.
        seconds = f"to_timestamp({nanoseconds} / 1000000000)"
        return f'(to_char({seconds}, \'YYYY-MM-DD"T"HH24:MI:SS\') COLLATE "C")'

    def time_of_day_s(self, column: str) -> str:
        return (
            f"CASE WHEN substr({column}, 12, 8) NOT IN ('', '00:00:00') THEN"
            f" CAST(extract(epoch FROM CAST({column} AS TIMESTAMP)) AS BIGINT) END"
        )

    def folded(self, column: str) -> str:
        name = column.rpartition(".")[2]
        # The others are ASCII.
        return f"{column}_folded" if name in FOLDED_COLUMNS else f"lower({column})"

    def member_text(self, value: str) -> str:
        return f"(({value} #>> '{{}}') COLLATE \"C\")"

    def member_number(self, value: str) -> str:
        return (
            f"CASE WHEN jsonb_typeof({value}) = 'number' THEN"
            f" CAST({value} #>> '{{}}' AS NUMERIC) END"
        )

    def member_has(self, value: str, parameter: str) -> str:
        return f"{value} @> to_jsonb(CAST({parameter} AS TEXT))"

    def match_words(self, parameter: str) -> str:
        return f"texts.words @@ to_tsquery({_TEXT_CONFIG}, {parameter})"

    def word_query(self, phrases: Iterable[str]) -> str:
        from mmsearch.catalog.folding import index_text  # noqa: PLC0415 - SQLite folds by itself

        words = (index_text(phrase).strip() for phrase in phrases)
        return " | ".join(f"'{phrase}'" for phrase in words if phrase)

    def has_trigram(self, pattern: str, query: str) -> tuple[str, str]:
        return "texts", self.has_substring(pattern)

    def has_substring(self, pattern: str) -> str:
        return f"texts.spaceless_text LIKE {pattern}"

    def spaceless_pattern(self, pattern: str) -> str:
        return str(fold_text(pattern))

    def first_text_with(self, parameter: str) -> str:
        return f"SELECT min(id) FROM texts WHERE words @@ {_exact_stem(parameter)}"  # noqa: S608

    def places_of_stem(self) -> str:
        return (
            "(SELECT texts.id AS doc, place - 1 AS place FROM texts"  # noqa: S608
            " CROSS JOIN unnest(texts.words) AS stem(lexeme, places, weights)"
            " CROSS JOIN unnest(stem.places) AS place"
            f" WHERE texts.words @@ {_exact_stem(':stem')} AND lexeme = :stem"
            " ORDER BY texts.id, place LIMIT :limit) AS found"
        )

    def iter_places(
        self, db: _Reader, start: str, upper: str, limit: int
    ) -> Iterator[tuple[str, int, int]]:
        yield from db.query(
            'SELECT DISTINCT ON (lexeme COLLATE "C") lexeme, texts.id, places[1] - 1 FROM texts'  # noqa: S608
            " CROSS JOIN unnest(texts.words) AS stem(lexeme, places, weights)"
            f" WHERE texts.words @@ {_exact_stem(':start', ':*')}"
            ' AND lexeme COLLATE "C" >= :start AND lexeme COLLATE "C" < :upper'
            ' ORDER BY lexeme COLLATE "C", texts.id LIMIT :limit',
            {"start": start, "upper": upper, "limit": limit},
        )

    def next_id(self, table: str, column: str) -> str:
        # Triggers write the table of this name.
        return SQLITE.next_id(table, column)


FOLDED_COLUMNS = ("camera", "lens", "label", "damage")
"""Columns of ``items`` that PostgreSQL has in folded form, too, with ``_folded`` after the name."""


def _exact_stem(parameter: str, ending: str = "") -> str:
    """Return a query for texts with a stem, which has only letters and digits."""
    return f"CAST('''' || CAST({parameter} AS TEXT) || '''{ending}' AS tsquery)"


def list_of_ids(ids: Iterable[int]) -> str:
    """Return a JSON list of ids, which `Dialect.in_ids` reads."""
    return json.dumps([int(each) for each in ids])


SQLITE: Dialect = SqliteDialect()
POSTGRES: Dialect = PostgresDialect()
