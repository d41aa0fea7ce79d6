"""Contract of `Snapshot.changed_fields`, for every catalog: items that have other fields now."""

import dataclasses
import re
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.catalog.filters import FIELD_EXPRESSIONS
from mmsearch.catalog.sqlalchemy_engine import write_transaction
from mmsearch.core.records import IndexedFile, ShardCommit
from mmsearch.core.types import Metadata, Text
from tests.property_budget import examples
from tests.unit.catalog.samples import IDENTITY, built, digest_of, encoded, indexed, seen

KEYWORDS = [Text("keywords", word) for word in ("Sea", "Snow")]


def collection(begun, covers=1):
    """Return a built index that stands for a collection."""
    one = built(covers)
    return dataclasses.replace(one, settings={"dim": 8, "collection": "c1"} | dict(begun))


def publish(catalog):
    catalog.publish(collection(catalog.begin_collection()))


def changed(catalog):
    with catalog.snapshot() as snapshot:
        ids = snapshot.changed_fields
        return None if ids is None else ids.tolist()


def execute(catalog, statement):
    with write_transaction(catalog._engine) as connection:
        connection.exec_driver_sql(statement)


@pytest.fixture
def filled(catalog, root):
    """A catalog with pictures 1 and 2 of which the first has a keyword; 1 is in two places."""
    catalog.set_identity(IDENTITY)
    catalog.commit_shard(encoded(catalog, root, {b"a": "a", b"b": "b", b"c": "a"}))
    catalog.commit_shard(describe(root, b"a", "a", texts=KEYWORDS[:1]))
    return catalog


def describe(root, path, content, **around):
    return ShardCommit(root.id, 3, indexed=[IndexedFile(seen(path), digest_of(content), **around)])


def test_nothing_is_logged_before_a_collection_is_begun(filled, root):
    filled.commit_shard(describe(root, b"b", "b", texts=KEYWORDS))
    filled.publish(built(2))
    execute(filled, "UPDATE items SET width = 7")
    assert changed(filled) is None
    with filled.snapshot() as snapshot:
        assert not snapshot._db.query("SELECT 1 FROM field_changes")


def test_items_that_change_later_are_listed(filled, root):
    publish(filled)
    assert changed(filled) == []
    filled.commit_shard(describe(root, b"b", "b", texts=KEYWORDS))
    assert changed(filled) == [2]
    # A new picture is beside the collection; what a later build reads of it is logged, too.
    filled.commit_shard(encoded(filled, root, {b"d": "d"}))
    filled.commit_shard(describe(root, b"d", "d", texts=KEYWORDS))
    assert changed(filled) == [2]
    # A collection that is never published changes nothing of the former one.
    begun = filled.begin_collection()
    filled.commit_shard(describe(root, b"d", "d", texts=()))
    assert changed(filled) == [2, 3]
    filled.publish(collection(begun))
    assert changed(filled) == [3]
    filled.add_changed_fields([1, 1])
    assert changed(filled) == [1, 3]


def test_changes_that_are_none_are_not_logged(filled, root):
    publish(filled)
    # The same file again, another place of it, and one place less.
    filled.commit_shard(describe(root, b"b", "b"))
    filled.commit_shard(indexed(root, {b"e": "b"}))
    filled.commit_shard(indexed(root, {}, removed=[b"e", b"c"]))
    assert changed(filled) == []


def test_a_picture_that_comes_back_is_logged(filled, root):
    filled.commit_shard(indexed(root, {}, removed=[b"b"]))
    publish(filled)
    filled.commit_shard(indexed(root, {b"x": "b"}))
    assert changed(filled) == [2]
    publish(filled)
    filled.commit_shard(indexed(root, {}, removed=[b"x"]))
    filled.commit_new(indexed(root, {b"y": "b", b"z": "b"}))
    assert changed(filled) == [2]


def test_what_a_collection_does_not_know_is_unknown(filled):
    publish(filled)
    # One without the log, of another version, or of another catalog.
    for settings_of_it in ({}, {"fields_definition": "x"}, {"fields_epoch": 99}):
        begun = dict(filled.begin_collection()) | settings_of_it
        filled.publish(collection(begun if settings_of_it else {}))
        assert changed(filled) is None
    # Of two that were begun, the later one was published first, and the log of the other is gone.
    first, second = filled.begin_collection(), filled.begin_collection()
    filled.publish(collection(second))
    assert changed(filled) == []
    filled.publish(collection(first))
    assert changed(filled) is None
    filled.drop_built_index()
    with filled.snapshot() as snapshot:
        assert snapshot._db.query("SELECT max_item_id FROM field_log") == [(0,)]


def columns_of(table):
    """Return the columns of a table whose values fields depend on."""
    found = re.findall(rf"\b{table}\.(\w+)", " ".join(FIELD_EXPRESSIONS.values()))
    return sorted({*found} - {"id", "content_id"})


TEXT_COLUMNS = {"format", "kind", "taken_at", "taken_from", "camera", "lens", "label", "damage"}


def test_every_column_that_fields_read_is_watched(filled):
    for table in ("items", "contents", "assets"):
        for column in columns_of(table):
            publish(filled)
            before = digests(filled)
            value = "'2001-02-03T04:05:06'" if column in TEXT_COLUMNS else "5"
            row = "content_id" if table == "assets" else "id"
            execute(filled, f"UPDATE {table} SET {column} = {value} WHERE {row} = 2")  # noqa: S608
            after = digests(filled)
            assert (before[1], before[2] != after[2]) == (after[1], True), column
            assert changed(filled) == [2], column


def digests(catalog):
    with catalog.snapshot() as snapshot:
        return {item.id: item.digest for item in snapshot.item_fields([1, 2])}


def test_expressions_of_fields_read_no_other_table():
    tables = set(re.findall(r"\b(\w+)\.\w+", " ".join(FIELD_EXPRESSIONS.values())))
    assert tables == {"items", "contents", "assets"}


def test_tags_are_watched(filled):
    for statement in (
        "UPDATE tags SET tag = 'hill' WHERE item_id = 1",
        "INSERT INTO tags (text_id, item_id, kind, tag)"
        " SELECT text_id, item_id, 'people', 'bob' FROM tags",
        "DELETE FROM tags WHERE kind = 'people'",
        "DELETE FROM texts WHERE item_id = 1",
    ):
        publish(filled)
        execute(filled, statement)
        assert changed(filled) == [1], statement


contents = st.sampled_from("ABCD")
around = st.fixed_dictionaries(
    {
        "texts": st.lists(st.sampled_from(KEYWORDS), unique=True, max_size=2).map(tuple),
        "overrides": st.sampled_from(
            [Metadata(), Metadata(rating=3, taken_at="2001-01-01T00:00:00")]
        ),
    }
)
steps = st.one_of(
    st.tuples(
        st.just("put"), st.sampled_from("abc"), contents, around, st.sampled_from((100, 200))
    ),
    st.tuples(st.just("add"), st.sampled_from("xyz"), contents),
    st.tuples(st.just("remove"), st.sampled_from("abcxyz")),
    st.tuples(st.sampled_from(("begin", "publish", "index"))),
)


class Library:
    """A catalog, and the fields that a collection would have read from it."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.root = catalog.ensure_root(b"/photos")[0]
        self.places, self.known = {}, set()
        self.begun = self.served = None

    def fields(self):
        with self.catalog.snapshot() as snapshot:
            return {item.id: item.digest for item in snapshot.item_fields(range(1, 50))}

    def encode(self, content):
        """Commit a new content, without a place that stays."""
        if content not in self.known:
            self.catalog.commit_shard(encoded(self.catalog, self.root, {b"new": content}))
            self.catalog.commit_shard(indexed(self.root, {}, removed=[b"new"]))
            self.known.add(content)

    def put(self, name, content, described, size):
        self.encode(content)
        file = IndexedFile(seen(name.encode(), size), digest_of(content), **described)
        self.catalog.commit_shard(ShardCommit(self.root.id, 3, indexed=[file]))
        self.places[name] = content

    def add(self, name, content):
        if name in self.places:
            return
        if content in self.known:
            self.catalog.commit_new(indexed(self.root, {name.encode(): content}))
        else:
            self.catalog.commit_new(encoded(self.catalog, self.root, {name.encode(): content}))
            self.known.add(content)
        self.places[name] = content

    def remove(self, name):
        if self.places.pop(name, None):
            self.catalog.commit_shard(indexed(self.root, {}, removed=[name.encode()]))

    def begin(self):
        self.begun = self.catalog.begin_collection(), self.fields()

    def publish(self):
        if self.begun is not None:
            begun, self.served = self.begun
            self.catalog.publish(collection(begun))
            self.begun = None

    def index(self):
        self.catalog.drop_built_index()
        self.served = None

    def check(self):
        with self.catalog.snapshot() as snapshot:
            changed_ids, deleted = snapshot.changed_fields, {*snapshot.deleted_ids.tolist()}
        if self.served is None:
            assert changed_ids is None
            return
        # What was begun before the log was ended is not up to date, and says so.
        if changed_ids is None:
            return
        current = self.fields()
        differing = {n for n, digest in self.served.items() if current[n] != digest} - deleted
        assert differing <= {*changed_ids.tolist()}


@settings(max_examples=examples(10), deadline=None)
@given(st.lists(steps, min_size=4, max_size=12))
def test_every_item_with_other_fields_is_listed_after_any_changes(open_new, todo):
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_new(Path(folder) / "catalog.sqlite", create=True)) as catalog,
    ):
        catalog.set_identity(IDENTITY)
        library = Library(catalog)
        for name in "ab":
            library.put(name, name.upper(), {}, 100)
        library.begin()
        library.publish()
        for verb, *values in todo:
            getattr(library, verb)(*values)
            library.check()
