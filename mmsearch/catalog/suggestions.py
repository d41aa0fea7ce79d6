"""Suggestions of words that begin with a prefix, read from the table ``suggestions``.

The table has the words of the texts, with the number of their pictures, and the words that pictures
look like. It is made after a run that has changed much (`suggestion_words`), so each word is
compared with the texts and the items of today before it is shown. Words that came since are found
in the tags and in the full-text index itself, if the prefix is long enough.

NumPy and the rest of the catalog are not imported: the completion of a shell must be fast.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmsearch.catalog.connection import ReadPool
from mmsearch.catalog.database import Database
from mmsearch.catalog.query_words import fold_case, strip_accents
from mmsearch.core.suggestions import MAX_PREFIX_CHARS, Suggestion, SuggestionKind
from mmsearch.core.types import TextSource, full_text_sources

if TYPE_CHECKING:
    from mmsearch.core.types import Ids

MAX_WORDS = 4
"""Maximum number of words at the end of a text that are completed together."""

MAX_CANDIDATES = 64
"""Number of the most frequent words with a prefix that are looked at."""

MAX_OF_KIND = 300
"""Number of the most frequent words among which those of each kind are found."""

MAX_CHECKED_TEXTS = 50
"""Number of texts with a word among which one of a searchable picture must be."""

MIN_NEW_PREFIX = 3
"""Number of letters from which on words are suggested that are not in the table yet."""

MAX_NEW_TAGS = 8
"""Number of tags and names of each kind with a prefix that are looked up in their index."""

MAX_NEW_WORDS = 16
"""Number of words with a prefix that are looked up in the full-text index."""

MAX_LISTED_ITEMS = 20_000
"""Number of the newest items whose cameras and formats are listed."""

LOOK_SHARE = 4
"""One of this many suggestions is a look if there are enough of them."""

KIND_BY_TEXT_KIND = {
    "people": SuggestionKind.PERSON,
    "place": SuggestionKind.PLACE,
    "keywords": SuggestionKind.TAG,
    "tag": SuggestionKind.TAG,
}
"""Kind of the suggestion of a tag by its kind; the first one counts."""

_TEXT_KINDS = json.dumps(list(KIND_BY_TEXT_KIND))

LAST_CHARACTER = "\U0010ffff"

_WORD_START = re.compile(r"(?<![^\W_])[^\W_]")


class Candidate(NamedTuple):
    """A word, the number of pictures whose texts hold it (0 for a look), and an example."""

    word: str
    pictures: int
    item_id: int


class Suggestions:
    """The suggestions of one snapshot.

    Args:
        db: A connection in a transaction.
        sources: Sources of the texts that are searched.
    """

    def __init__(self, db: Database, sources: Iterable[TextSource]) -> None:
        self._db = db
        self._sources = json.dumps(sorted(sources))

    def suggest(
        self, prefix: str, limit: int, kinds: frozenset[SuggestionKind]
    ) -> list[Suggestion]:
        """Return texts that complete a prefix, the most useful ones first.

        Case and accents are ignored. The last words are completed, as many as fit into one tag or
        name; what is before them is kept. An empty prefix gives the most useful words of all.

        Args:
            prefix: What was typed.
            limit: Maximum number of suggestions.
            kinds: Kinds of suggestions.
        """
        if len(prefix) > MAX_PREFIX_CHARS:
            return []
        if not prefix.strip():
            return self._choose_best(limit, kinds)
        found: dict[str, Suggestion] = {}
        starts = [match.start() for match in _WORD_START.finditer(prefix)]
        for start in starts[-MAX_WORDS:]:
            if len(found) >= limit:
                break
            kept, part = prefix[:start], prefix[start:]
            for suggestion in self._complete(kept, part, limit, kinds):
                found.setdefault(fold(suggestion.text), suggestion)
        return list(found.values())[:limit]

    def list_values(self, column: str) -> list[str]:
        """Return the different cameras or formats of the newest items, sorted.

        Args:
            column: ``camera`` or ``format``.
        """
        rows = self._db.query(
            f"SELECT DISTINCT {column} FROM"  # noqa: S608 - one of two names
            f" (SELECT {column} FROM items WHERE is_live = 1 ORDER BY id DESC LIMIT ?)"
            f" WHERE {column} IS NOT NULL",
            [MAX_LISTED_ITEMS],
        )
        return sorted(value for (value,) in rows)

    def _complete(
        self, kept: str, part: str, limit: int, kinds: frozenset[SuggestionKind]
    ) -> list[Suggestion]:
        """Return suggestions that complete the last part of a text."""
        start = fold(part)
        typed = {fold(word) for word in kept.split()}
        words: list[Suggestion] = []
        looks: list[Suggestion] = []
        for suggestion in self._list_all(start, kinds):
            if fold(suggestion.text) in typed:
                continue
            chosen = looks if suggestion.kind is SuggestionKind.LOOK else words
            if len(chosen) < limit:
                chosen.append(suggestion)
            if len(words) >= limit and len(looks) >= limit // LOOK_SHARE:
                break
        num_looks = max(min(len(looks), limit // LOOK_SHARE), limit - len(words))
        chosen = words[: limit - min(num_looks, len(looks))] + looks[:num_looks]
        # What is complete already comes first.
        chosen.sort(key=lambda suggestion: fold(suggestion.text) != start.rstrip())
        return [
            Suggestion(kept + one.text, one.kind, one.count, one.item) for one in chosen[:limit]
        ]

    def _choose_best(self, limit: int, kinds: frozenset[SuggestionKind]) -> list[Suggestion]:
        """Return the best suggestions of each kind, one kind after the other, in turns."""
        by_kind: dict[str, list[Suggestion]] = {kind: [] for kind in SuggestionKind}
        for candidate, kind in self._with_kinds(self._list_candidates("", kinds), kinds):
            if len(by_kind[kind]) < limit and (suggestion := self._check(candidate, kind)):
                by_kind[kind].append(suggestion)
        turns = [
            (turn, order, suggestion)
            for order, own in enumerate(by_kind.values())
            for turn, suggestion in enumerate(own)
        ]
        return [suggestion for *_, suggestion in sorted(turns, key=lambda turn: turn[:2])[:limit]]

    def _list_all(self, start: str, kinds: frozenset[SuggestionKind]) -> Iterator[Suggestion]:
        """Yield the suggestions whose folded word begins with a text, the best ones first."""
        for candidate, kind in self._with_kinds(self._list_candidates(start, kinds), kinds):
            suggestion = self._check(candidate, kind)
            if suggestion is not None:
                yield suggestion

    def _with_kinds(
        self, candidates: Iterable[Candidate], kinds: frozenset[SuggestionKind]
    ) -> Iterator[tuple[Candidate, SuggestionKind]]:
        """Yield different words with their kinds, without those of other kinds."""
        seen: set[str] = set()
        for candidate in candidates:
            key = fold(candidate.word)
            if key not in seen:
                seen.add(key)
                is_look = candidate.pictures == 0
                kind = SuggestionKind.LOOK if is_look else self.find_kind(candidate.word)
                if kind in kinds:
                    yield candidate, kind

    def _list_candidates(self, start: str, kinds: frozenset[SuggestionKind]) -> Iterator[Candidate]:
        if kinds != {SuggestionKind.LOOK}:
            # Names of people may be rarer than many other words.
            count = MAX_CANDIDATES if start and SuggestionKind.WORD in kinds else MAX_OF_KIND
            yield from self.list_rows(start, count)
            if len(start) >= MIN_NEW_PREFIX:
                yield from self.list_new_tags(start, kinds)
                if SuggestionKind.WORD in kinds:
                    yield from self.list_new_words(start)
        if SuggestionKind.LOOK in kinds:
            yield from self.list_rows(start, MAX_CANDIDATES, looks=True)

    # --- reading ---

    def list_rows(self, start: str, count: int, *, looks: bool = False) -> list[Candidate]:
        """Return rows of the table whose word begins with a text, the best ones first.

        Args:
            start: The text, folded.
            count: Maximum number of rows.
            looks: True for looks, False for words of texts.
        """
        where = "pictures = 0" if looks else "pictures > 0"
        where += " AND folded >= ? AND folded < ?" if start else ""
        # Rows are written in the order of their use.
        rows = self._db.query(
            f"SELECT word, pictures, item_id FROM suggestions WHERE {where} ORDER BY rowid LIMIT ?",  # noqa: S608
            [start, start + LAST_CHARACTER, count] if start else [count],
        )
        return [Candidate(*row) for row in rows]

    def list_new_tags(self, start: str, kinds: frozenset[SuggestionKind]) -> Iterator[Candidate]:
        """Yield tags with a start that may not be in the table yet; accents count."""
        for text_kind, kind in KIND_BY_TEXT_KIND.items():
            if kind not in kinds:
                continue
            tag, sign, upper = start, ">=", start + LAST_CHARACTER
            for _ in range(MAX_NEW_TAGS):
                # One step from tag to tag in the index: frequent ones have many rows.
                rows = self._db.query(
                    f"SELECT tag, item_id FROM tags WHERE kind = ? AND tag {sign} ? AND tag < ?"  # noqa: S608
                    " ORDER BY tag, item_id LIMIT 1",
                    [text_kind, tag, upper],
                )
                if not rows:
                    break
                (tag, item_id), sign = rows[0], ">"
                if not tag.isdigit():
                    yield Candidate(tag, 1, item_id)

    def list_new_words(self, start: str) -> Iterator[Candidate]:
        """Yield words of texts whose stem has a start and which may not be in the table yet."""
        from mmsearch.catalog.suggestion_words import (  # noqa: PLC0415 - rare
            find_word,
            is_word,
            show_word,
        )

        if not start.isalpha():
            return
        sql = self._db.dialect
        for statement in sql.stem_tables:
            self._db.query(statement)
        upper = start + LAST_CHARACTER
        for term, text_id, place in sql.iter_places(self._db, start, upper, MAX_NEW_WORDS):
            for text, source, item_id in self._db.query(
                "SELECT text, source, item_id FROM texts WHERE id = ?", [text_id]
            ):
                word = find_word(text, place, term)
                if word and is_word(word, {source}, 1) and fold(word).startswith(start):
                    yield Candidate(show_word(word), 1, item_id)

    def _check(self, candidate: Candidate, kind: SuggestionKind) -> Suggestion | None:
        """Return the suggestion of a word; None if nothing has or shows it any more."""
        if kind is SuggestionKind.LOOK:
            if not self.has_item(candidate.item_id):
                return None
            return Suggestion(candidate.word, kind, None, candidate.item_id)
        item_id = self.find_item(candidate)
        if item_id is None:
            return None
        return Suggestion(candidate.word, kind, candidate.pictures, item_id)

    def has_item(self, item_id: int) -> bool:
        """Return True if an item is searchable."""
        return bool(self._db.query("SELECT 1 FROM items WHERE id = ? AND is_live = 1", [item_id]))

    def list_items(self, word: str, among: Ids) -> Ids:
        """Return the ids of the searchable items, of some, whose texts hold a word."""
        import numpy as np  # noqa: PLC0415 - completions need none

        sql = self._db.dialect
        rows = self._db.query(
            f"SELECT DISTINCT items.id FROM {sql.words_from} JOIN items ON items.id = texts.item_id"  # noqa: S608
            f" WHERE {sql.match_words(':query')} AND {sql.unindexed}source {sql.texts(':sources')}"
            f" AND is_live = 1 AND items.id {sql.ids(':among')}",
            {
                "query": sql.word_query([word]),
                "sources": self._sources,
                "among": json.dumps(among.tolist()),
            },
        )
        return np.array([item_id for (item_id,) in rows], np.int64)

    def find_item(self, candidate: Candidate) -> int | None:
        """Return a searchable item with a word in its texts: that of the table, or another one."""
        sql = self._db.dialect
        has_word = (
            f"{sql.match_words(':query')} AND {sql.unindexed}texts.source {sql.texts(':sources')}"
        )
        values = {"query": sql.word_query([candidate.word]), "sources": self._sources}
        rows = self._db.query(
            # In this order: a frequent word has many texts, an item has few.
            f"SELECT items.id FROM items {sql.ordered_join} texts ON texts.item_id = items.id"  # noqa: S608
            f" {sql.words_of_texts} WHERE items.id = :item AND is_live = 1 AND {has_word} LIMIT 1",
            {**values, "item": candidate.item_id},
        ) or self._db.query(
            f"SELECT items.id FROM (SELECT texts.item_id, texts.id FROM {sql.words_from}"  # noqa: S608
            f" WHERE {has_word} ORDER BY {sql.words_order} LIMIT {MAX_CHECKED_TEXTS}) AS found"
            " JOIN items ON items.id = found.item_id"
            " WHERE is_live = 1 ORDER BY found.id LIMIT 1",
            values,
        )
        return rows[0][0] if rows else None

    def find_kind(self, word: str) -> SuggestionKind:
        """Return the kind of a word of the texts."""
        found = {
            kind
            for (kind,) in self._db.query(
                f"SELECT DISTINCT value FROM {self._db.dialect.text_rows('?')}"  # noqa: S608
                " WHERE EXISTS (SELECT 1 FROM tags WHERE kind = value AND tag = ?)",
                [_TEXT_KINDS, fold_case(word)],
            )
        }
        kinds = [kind for text_kind, kind in KIND_BY_TEXT_KIND.items() if text_kind in found]
        return kinds[0] if kinds else SuggestionKind.WORD


@contextmanager
def open_suggestions(path: Path) -> Iterator[Suggestions]:
    """Open the suggestions of a catalog without its other parts, for the completion of a shell.

    Raises:
        MMSearchError: The catalog cannot be read.
        sqlite3.Error: It has no suggestions, such as one of an earlier version.
    """
    with closing(ReadPool(path)) as pool, pool.read_transaction() as db:
        rows = db.query("SELECT value FROM settings WHERE key = 'texts'")
        sources = [TextSource(name) for name in json.loads(rows[0][0])] if rows else ()
        yield Suggestions(db, full_text_sources(sources))


def fold(text: str) -> str:
    """Return a text without differences of case, accents and spaces."""
    folded = strip_accents(fold_case(text))
    # A space at the end says that the word before it is complete.
    end = " " if folded[-1:].isspace() else ""
    return " ".join(folded.split()) + end
