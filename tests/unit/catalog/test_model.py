"""A catalog holds the same content as a dict after any sequence of operations."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mmsearch.catalog.open import open_writer
from mmsearch.core.records import ShardCommit
from tests.property_budget import examples
from tests.unit.catalog.samples import digest_of, encoded, indexed, seen

NAMES = st.sampled_from([b"a", b"b", b"x/a", b"x/b", b"x/y/\xff\n", b"x-"])
CONTENTS = st.sampled_from("ABCDE")
FOLDERS = st.sampled_from([b"/p", b"/p/x", b"/p/x/y", b"/q", b"/p-", b"/"])


class CatalogMachine(RuleBasedStateMachine):
    """State machine that compares a catalog with dicts.

    `self.files` maps absolute paths to contents, or to None if the file is not a picture.
    """

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.catalog = open_writer(Path(self.folder.name) / "catalog.sqlite", create=True)
        self.files = {}
        self.ids = {}
        self.last = None

    def teardown(self):
        self.catalog.close()
        self.folder.cleanup()

    def commit(self, shard):
        self.catalog.commit_shard(shard)
        self.last = shard
        for item in shard.pictures:
            assert item.digest not in self.ids
            self.ids[item.digest] = item.id

    @rule(folder=FOLDERS, files=st.dictionaries(NAMES, CONTENTS, max_size=4))
    def put(self, folder, files):
        root, rest = self.catalog.ensure_root(folder)
        prefix = rest + b"/" if rest else b""
        files = {prefix + path: content for path, content in files.items()}
        new = {path: c for path, c in files.items() if digest_of(c) not in self.ids}
        old = {path: c for path, c in files.items() if path not in new}
        self.commit(encoded(self.catalog, root, new))
        self.commit(indexed(root, old))
        for path, content in files.items():
            self.files[absolute(root.path, path)] = content

    @rule(folder=FOLDERS, name=NAMES)
    def fail(self, folder, name):
        root, rest = self.catalog.ensure_root(folder)
        path = rest + b"/" + name if rest else name
        self.commit(ShardCommit(root.id, 5, failed=[(seen(path), b"torn", "broken")]))
        self.files[absolute(root.path, path)] = None

    @rule(folder=FOLDERS)
    def drop(self, folder):
        root, rest = self.catalog.ensure_root(folder)
        known = self.catalog.list_files_under(root.id, rest)
        self.commit(ShardCommit(root.id, 6, removed=list(known)))
        for path in known:
            del self.files[absolute(root.path, path)]
        assert not any(is_below(folder, path) for path in self.files)

    @rule(at=st.integers(0, 5), folder=st.sampled_from([b"/r", b"/s/t", b"/u"]))
    def move(self, at, folder):
        roots = self.catalog.roots()
        if at >= len(roots) or any(is_below(root.path, folder) for root in roots):
            return
        root = roots[at]
        self.catalog.move_root(root.name, folder)
        self.files = {
            absolute(folder, path.removeprefix(root.path.rstrip(b"/") + b"/"))
            if is_below(root.path, path)
            else path: content
            for path, content in self.files.items()
        }

    @rule()
    def commit_again(self):
        # A wider root may have replaced the root of the shard.
        if self.last is None or self.last.root_id not in {r.id for r in self.catalog.roots()}:
            return
        before = self.generation()
        self.catalog.commit_shard(self.last)
        assert self.generation() == before

    def generation(self):
        with self.catalog.snapshot() as snapshot:
            return snapshot.generation

    @invariant()
    def holds_what_the_dict_holds(self):
        places = {}
        for path, content in self.files.items():
            if content is not None:
                places.setdefault(digest_of(content), []).append(path)
        failed = sorted(path for path, content in self.files.items() if content is None)
        assert [file.path for file in self.catalog.failures()] == failed
        assert self.catalog.file_count() == sum(map(len, places.values()))
        assert self.catalog.find_item_ids([digest_of(c) for c in "ABCDE"]) == self.ids
        with self.catalog.snapshot() as snapshot:
            assert snapshot.pictures == len(places)
            dead = sorted(number for digest, number in self.ids.items() if digest not in places)
            assert snapshot.deleted_ids.tolist() == dead
            records = snapshot.records(list(self.ids.values()))
        found = {record.id: list(record.paths) for record in records}
        assert found == {
            number: sorted(places.get(digest, ())) for digest, number in self.ids.items()
        }
        with self.catalog._engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT items.id, asset_count FROM items JOIN contents ON contents.id = content_id"
            ).all()
        assert {row.id: row.asset_count for row in rows} == {
            number: len(paths) for number, paths in found.items()
        }


def absolute(root, path):
    return root.rstrip(b"/") + b"/" + path


def is_below(folder, path):
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


TestCatalogMachine = CatalogMachine.TestCase
TestCatalogMachine.settings = settings(
    max_examples=examples(25),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

ANY_NAME = (
    st.binary(min_size=1, max_size=12)
    .map(lambda name: name.replace(b"\0", b"\1").replace(b"/", b"\2"))
    .filter(lambda name: name not in (b".", b".."))
)
ANY_PATH = st.lists(ANY_NAME, min_size=1, max_size=4).map(b"/".join)


@given(paths=st.sets(ANY_PATH, max_size=8), inner=ANY_PATH, wide=st.booleans())
@example(paths={b"\n", b"a/.\n"}, inner=b"..\n", wide=True)
@settings(max_examples=examples(40), deadline=None)
def test_list_files_under_any_path_bytes_returns_committed_paths(paths, inner, wide):
    with tempfile.TemporaryDirectory() as folder:
        catalog = open_writer(Path(folder) / "catalog.sqlite", create=True)
        root, _ = catalog.ensure_root(b"/wide/" + inner)
        catalog.commit_shard(encoded(catalog, root, dict.fromkeys(sorted(paths), "A")))
        prefix = root.path
        if wide:
            root, _ = catalog.ensure_root(b"/wide")
        known = catalog.list_files_under(root.id, b"")
        assert {absolute(root.path, path) for path in known} == {
            absolute(prefix, path) for path in paths
        }
        assert all(file.path == path for path, file in known.items())
        catalog.close()
