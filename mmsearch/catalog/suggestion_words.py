"""The words of the texts of an index that are fit to be suggested, with their numbers of pictures.

The full-text index knows stems and where they are, so that the texts are not read: of each frequent
stem, a few texts show the word itself. Left out is what nobody would search for: numbers, stop
words, names that cameras give to files, and letters that a model read in a picture by mistake.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Set

from mmsearch.catalog.database import Database
from mmsearch.catalog.query_words import UNSEGMENTED_SCRIPTS, WORD, fold_case, strip_accents
from mmsearch.core.language import is_english_word
from mmsearch.core.stop_words import STOP_WORDS
from mmsearch.core.suggestions import SuggestedWord
from mmsearch.core.types import TextSource

MAX_STEMS = 20_000
"""Maximum number of stems, the most frequent ones."""

MAX_TAGS = 20_000
"""Maximum number of tags and names, the most frequent ones."""

TEXTS_PER_STEM = 3
"""Number of texts that are read to find the word of a stem."""

MIN_MODEL_TEXTS = 3
"""Number of texts from which on a word that is not English and only models read is suggested."""

MIN_FILE_NAMES = 2
"""Number of names of files from which on a word that is not English is suggested."""

MAX_COUNTED_TEXTS = 200
"""Number of texts of a word whose pictures are counted; the others are taken to be like them."""

MAX_TAG_CHARS = 60
"""Maximum number of characters of a tag or a name."""

FILE_NAME_NOISE = frozenset(
    [
        "avif",
        "bmp",
        "copy",
        "cr2",
        "dcim",
        "dng",
        "dsc",
        "dscf",
        "dscn",
        "edited",
        "export",
        "file",
        "final",
        "fullsizerender",
        "gif",
        "gopr",
        "heic",
        "heif",
        "http",
        "https",
        "image",
        "images",
        "img",
        "jpeg",
        "jpg",
        "jxl",
        "kopie",
        "mov",
        "mp4",
        "mvi",
        "nef",
        "new",
        "orig",
        "original",
        "pano",
        "pdf",
        "photo",
        "photos",
        "picture",
        "pictures",
        "pict",
        "png",
        "pxl",
        "raf",
        "raw",
        "resized",
        "scan",
        "screenshot",
        "svg",
        "thumb",
        "thumbnail",
        "tif",
        "tiff",
        "untitled",
        "vid",
        "video",
        "webp",
        "www",
    ]
)
"""Words in names of files that say nothing about the picture."""

_LETTERS = re.compile(r"[^\W\d_]{3,30}")
_VOWEL = re.compile("[aeiouy]")


def collect_words(db: Database, sources: Set[TextSource]) -> Iterator[SuggestedWord]:
    """Yield the tags, the names and the other words of the texts, those of a kind by frequency.

    Args:
        db: A connection in a transaction.
        sources: Sources of the texts that are searched.
    """
    yield from _collect_tags(db)
    yield from _collect_stems(db, sources)


def is_word(word: str, sources: Set[str], num_texts: int) -> bool:
    """Return True if a word of texts is fit to be suggested.

    Args:
        word: The word.
        sources: Sources of the texts that hold it.
        num_texts: Number of these texts.
    """
    folded = fold_case(word)
    if not _LETTERS.fullmatch(folded) or UNSEGMENTED_SCRIPTS.search(folded):
        return False
    if folded in STOP_WORDS or folded in FILE_NAME_NOISE:
        return False
    if is_english_word(folded):
        return True
    if sources <= {TextSource.FILENAME}:
        minimum = MIN_FILE_NAMES
    elif sources <= {TextSource.OCR, TextSource.SPEECH, TextSource.FILENAME}:
        minimum = MIN_MODEL_TEXTS
    else:
        return True
    has_vowel = _VOWEL.search(strip_accents(folded)) is not None
    is_latin = strip_accents(folded).isascii()
    return num_texts >= minimum and (has_vowel or not is_latin)


def find_word(text: str, offset: int, stem: str) -> str:
    """Return the word at a position of a text, counted in words from 0; empty if it is not there.

    Args:
        text: The text.
        offset: Number of the word in the text, as FTS5 counts it.
        stem: The stem of the word, which begins like it.
    """
    for number, match in enumerate(WORD.finditer(text)):
        if number == offset:
            word = match.group()
            # FTS5 splits a few scripts in another way.
            return word if strip_accents(fold_case(word))[:2] == strip_accents(stem)[:2] else ""
    return ""


def _collect_tags(db: Database) -> Iterator[SuggestedWord]:
    for kind, tag, count, item_id in db.query(
        "SELECT kind, tag, count(DISTINCT item_id), min(item_id) FROM tags"
        " JOIN items ON items.id = item_id WHERE is_live = 1 AND length(tag) BETWEEN 2 AND ?"
        " GROUP BY kind, tag ORDER BY 3 DESC, tag LIMIT ?",
        [MAX_TAG_CHARS, MAX_TAGS],
    ):
        if tag.isdigit():
            continue
        for (text,) in db.query(
            "SELECT text FROM tags JOIN texts ON texts.id = text_id"
            " WHERE tags.kind = ? AND tag = ? AND tags.item_id = ? ORDER BY tags.id LIMIT 1",
            [kind, tag, item_id],
        ):
            spelled = (value.strip() for value in text.split(";"))
            word = next((value for value in spelled if fold_case(value) == tag), tag)
            yield SuggestedWord(" ".join(word.split()), item_id, count)


def _collect_stems(db: Database, sources: Set[TextSource]) -> Iterator[SuggestedWord]:
    sql = db.dialect
    for statement in sql.stem_tables:
        db.query(statement)
    stems = db.query(
        f"SELECT term, doc FROM {sql.stems} WHERE length(term) BETWEEN 3 AND 30"  # noqa: S608
        f" AND NOT ({sql.has_digit('term')}) ORDER BY doc DESC, term LIMIT ?",
        [MAX_STEMS],
    )
    for stem, count in stems:
        rows = db.query(
            "SELECT texts.text, texts.source, found.place, texts.item_id FROM"  # noqa: S608
            f" {sql.places_of_stem()} JOIN texts ON texts.id = found.doc"
            " JOIN items ON items.id = texts.item_id"
            " WHERE is_live = 1 ORDER BY texts.id, found.place",
            {"stem": stem, "limit": TEXTS_PER_STEM},
        )
        rows = [row for row in rows if row[1] in sources]
        words = [find_word(text, place, stem) for text, _, place, _ in rows]
        spellings = Counter(filter(None, words))
        if not spellings:
            continue
        word = spellings.most_common(1)[0][0]
        if is_word(word, {row[1] for row in rows}, count):
            pictures = _count_pictures(db, word, count)
            yield SuggestedWord(show_word(word), rows[words.index(word)][3], pictures)


def _count_pictures(db: Database, word: str, num_texts: int) -> int:
    """Return the number of pictures whose texts hold a word; of many, an estimate."""
    sql = db.dialect
    ((texts, pictures),) = db.query(
        "SELECT count(*), count(DISTINCT item_id) FROM (SELECT texts.item_id"  # noqa: S608
        f" FROM {sql.words_from} WHERE {sql.match_words(':query')}"
        f" ORDER BY {sql.words_order} LIMIT :limit) AS found",
        {"query": sql.word_query([word]), "limit": MAX_COUNTED_TEXTS},
    )
    share: float = pictures / max(texts, 1)
    return max(1, round(num_texts * share))


def show_word(word: str) -> str:
    """Return a word as it is suggested: a name as it is written, other words in lower case."""
    is_name = word[1:].islower() and not is_english_word(fold_case(word))
    return word if is_name else word.lower()
