"""Shards of new pictures and assets that are written at once equal those written row by row."""

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.catalog.open import open_writer
from mmsearch.core.records import (
    RECORDS_KIND,
    CaptionTableTexts,
    EncodedPicture,
    FolderRecord,
    IndexedFile,
    ScannedFile,
    ShardCommit,
)
from mmsearch.core.types import (
    IMAGE_KIND,
    WHOLE,
    ItemLocator,
    Metadata,
    Picture,
    Text,
    select_encoded_texts,
    texts_digest,
)
from tests.property_budget import examples
from tests.unit.catalog.samples import IDENTITY, digest_of, encoded, indexed, segment, state

NO_TIMES = {"runs", "migrations", "sqlite_stat1"}

texts = st.builds(
    Text,
    st.sampled_from(["caption", "keywords", "place"]),
    st.sampled_from(["a red car", "sea; Sun; sea", "東京の夜", "\ud800 lone"]),
    st.sampled_from([None, "en"]),
    st.just("sidecar"),
)
facts = st.builds(
    Metadata,
    taken_at=st.sampled_from([None, "2020-05-17T10:11:12"]),
    taken_from=st.just("exif"),
    camera=st.sampled_from([None, "Leica \ud800"]),
    rating=st.sampled_from([None, 3]),
)
captions = st.none() | st.builds(
    CaptionTableTexts, st.sampled_from([None, b"/t.csv"]), st.lists(texts, max_size=2)
)


@st.composite
def shards(draw):
    """Parts of a shard for a folder that has the contents 0 and 1, the first without a file."""
    contents = draw(st.lists(st.integers(0, 9), max_size=12))
    files = [
        {
            "digest": digest_of(str(content)),
            "texts": draw(st.lists(texts, max_size=2)),
            "table": draw(captions),
            "texts_key": draw(st.sampled_from([b"", b"key"])),
            "overrides": draw(facts),
            "fallbacks": draw(facts),
            "part": draw(st.sampled_from([None, b"part"])),
            "stamp": draw(st.sampled_from([None, b"stamp"])),
            "metadata": draw(st.sampled_from([None, {"price": 3}])),
        }
        for content in contents
    ]
    new = sorted({content for content in contents if content > 1} | draw(st.sets(st.just(9))))
    pictures = [
        (content, part, tuple(draw(st.lists(texts, max_size=2))))
        for content in new
        for part in range(3 if content == 9 else 1)
    ]
    return files, pictures, draw(st.booleans())


def make_catalog(path, open_new=open_writer):
    catalog = open_new(path, create=True)
    catalog.set_identity(IDENTITY)
    root, _ = catalog.ensure_root(b"/photos")
    catalog.commit_shard(encoded(catalog, root, {b"0.jpg": "0", b"1.jpg": "1"}))
    catalog.commit_shard(indexed(root, {}, removed=[b"0.jpg"]))
    record = catalog.ensure_source(RECORDS_KIND, b"", {})
    for source_id in (root.id, record.id):
        catalog.save_part(source_id, b"folder", FolderRecord(b"stamp", 1, 0))
    return catalog, {False: root.id, True: record.id}


def make_shard(catalog, source_id, files, pictures):
    first_id, number = catalog.next_free_ids()
    encoded_pictures = [
        EncodedPicture(
            item_id,
            digest_of(str(content)),
            Picture(640, 480, "JPEG", camera="Canon", texts=embedded),
            texts_digest(select_encoded_texts(embedded, IDENTITY.texts)),
            locator=ItemLocator(part, part * 1000, part * 1000 + 999) if part else WHOLE,
            kind="video" if content == 9 else IMAGE_KIND,
        )
        for item_id, (content, part, embedded) in enumerate(pictures, first_id)
    ]
    placed = [
        IndexedFile(ScannedFile(b"new/%d.jpg" % row, row, row, ctime_ns=row), **values)
        for row, values in enumerate(files)
    ]
    new_segment = segment(number, len(pictures)) if pictures else None
    return ShardCommit(source_id, 5, new_segment, encoded_pictures, placed)


def dump(path):
    """Return all rows of all tables, and the statements of the schema."""
    with closing(sqlite3.connect(path)) as db:
        db.text_factory = bytes
        tables = [
            name.decode()
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        rows = {
            table: sorted(map(repr, db.execute(f'SELECT * FROM "{table}"')))  # noqa: S608
            for table in tables
            if table not in NO_TIMES and not table.endswith(("_data", "_idx"))
        }
        for name in ("settings", "generations"):
            rows[name] = len(rows[name])
        schema = sorted(
            map(repr, db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))
        )
        for table in ("words", "trigrams"):
            db.execute(f"INSERT INTO {table} ({table}) VALUES ('integrity-check')")  # noqa: S608
        return rows, schema


@settings(max_examples=examples(60))
@given(parts=shards())
def test_commit_new_writes_the_rows_that_commit_shard_writes(parts):
    files, pictures, is_records = parts
    with TemporaryDirectory() as name:
        dumps = []
        for method in ("commit_shard", "commit_new"):
            path = Path(name) / f"{method}.sqlite"
            catalog, sources = make_catalog(path)
            with closing(catalog):
                shard = make_shard(catalog, sources[is_records], files, pictures)
                getattr(catalog, method)(shard)
                assert list(catalog.find_problems()) == []
            dumps.append(dump(path))
        assert dumps[0] == dumps[1]


@pytest.mark.parametrize("is_known", ["path", "content", "id"])
def test_commit_new_of_what_is_not_new_raises_and_changes_nothing(is_known, tmp_path):
    catalog, sources = make_catalog(tmp_path / "catalog.sqlite")
    with closing(catalog):
        before = state(catalog)
        content = "1" if is_known == "content" else "new"
        first_id, number = catalog.next_free_ids()
        item = EncodedPicture(
            1 if is_known == "id" else first_id, digest_of(content), Picture(1, 1, "PNG")
        )
        path = b"1.jpg" if is_known == "path" else b"2.jpg"
        placed = IndexedFile(ScannedFile(path, 1, 1), digest_of(content))
        shard = ShardCommit(sources[False], 5, segment(number, 1), [item], [placed])
        with pytest.raises(ValueError, match="not new"):
            catalog.commit_new(shard)
        assert state(catalog) == before


def test_commit_new_with_failed_or_moved_files_raises(tmp_path):
    catalog, sources = make_catalog(tmp_path / "catalog.sqlite")
    with closing(catalog):
        for shard in (
            ShardCommit(sources[False], 5, removed=[b"1.jpg"]),
            ShardCommit(sources[False], 5, failed=[(ScannedFile(b"x", 1, 1), b"", "bad")]),
        ):
            with pytest.raises(ValueError, match="more than new assets"):
                catalog.commit_new(shard)
