"""The whole store matches a model in memory after any operations and crashes."""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mmsearch.core.results import IndexRequest
from mmsearch.core.types import Text
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.indexing.compaction import compact
from mmsearch.indexing.enrich import EnrichJob, describe_vectors, enrich
from mmsearch.maintenance.check import check_vectors
from mmsearch.storage import failpoints
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from tests.property_budget import examples
from tests.toy_index import ToyEncoder, seeded_pixels, toy_engine, toy_indexer

NAMES = st.sampled_from(["a", "b", "sub/a", "sub/c"])
CONTENTS = st.sampled_from(["one", "two", "three", "bad"])
POINTS = st.sampled_from([point for point in FailPoint if "catalog" not in point])
VISITS = st.integers(1, 6)


class Killed(BaseException):
    """Stand-in for SIGKILL that no handler in the package catches."""


class Store(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.photos = self.base / "photos"
        self.layout = IndexLayout(self.base / "index")
        self.tick = 0
        self.seen = {}

    @initialize()
    def begin(self):
        (self.photos / "sub").mkdir(parents=True)
        self.write("a", "one")
        self.index()

    def teardown(self):
        shutil.rmtree(self.base)

    # --- changes to the photo folder ---

    def path(self, name):
        return self.photos / f"{name}.toy"

    @rule(name=NAMES, content=CONTENTS)
    def write(self, name, content):
        self.tick += 1
        self.path(name).write_text(content)
        os.utime(self.path(name), ns=(self.tick * 10**9, self.tick * 10**9))

    @rule(name=NAMES)
    def delete(self, name):
        self.path(name).unlink(missing_ok=True)

    @rule(name=NAMES, other=NAMES)
    def move(self, name, other):
        if self.path(name).exists():
            self.path(name).rename(self.path(other))

    # --- operations of the store ---

    @rule()
    def index(self):
        with toy_indexer(self.layout, vector_index="faiss_flat") as indexer:
            indexer.run(IndexRequest(os.fsencode(self.photos), allow_empty=True))
        files = {str(p.relative_to(self.photos)): p.read_text() for p in self.photos.rglob("*.toy")}
        self.seen = {name: text for name, text in files.items() if text != "bad"}
        assert self.held() == self.seen

    @rule()
    def merge(self):
        with catalogs.open_write(self.layout, 0, create=False) as catalog:
            bound = catalog.identity()
            builder = make_index_builder(self.layout, catalog, ToyEncoder)
            compact(self.layout, catalog, make_fusion(bound.fusion), builder)

    @rule(version=st.sampled_from(["one", "two"]))
    def describe(self, version="one"):
        """Name each picture by its vector; another version does it again."""
        with catalogs.open_write(self.layout, 0, create=False) as catalog:
            job = EnrichJob("tags", version, frozenset({"image"}), page_size=2)
            make_texts = describe_vectors(self.layout, catalog, NamingEnricher())
            enrich(self.layout, catalog, job, make_texts, lambda state: None)
            assert catalog.derived.list_pending("tags", version, job.kinds, 0, 9) == []

    @rule(point=POINTS, visit=VISITS, what=st.sampled_from(["index", "merge", "describe"]))
    def be_killed(self, point, visit, what):
        """Stop at a step of a commit; earlier commits stay."""

        def die(pid, number):
            raise Killed

        kill, failpoints.os.kill = failpoints.os.kill, die
        failpoints._ARMED_POINT, failpoints._HITS_LEFT = point, visit
        try:
            getattr(self, what)()
        except Killed:
            self.seen = self.held()
        finally:
            failpoints.os.kill = kill
            failpoints._ARMED_POINT, failpoints._HITS_LEFT = "", 1

    # --- invariants ---

    def held(self):
        """Return the content of each stored file, found by its digest, by path."""
        with catalogs.open_read(self.layout) as catalog:
            return {
                os.fsdecode(path): content_of(file.digest)
                for root in catalog.roots()
                for path, file in catalog.list_files_under(root.id, b"").items()
                if file.content_id is not None
            }

    @invariant()
    def every_picture_is_found_by_itself(self):
        if not self.layout.exists():
            return
        assert self.held() == self.seen
        with toy_engine(self.layout) as engine:
            found = engine.search_text("three", 50).hits
            paths = {str(p.relative_to(self.photos)) for h in found for p in (h.path, *h.copies)}
            assert paths == set(self.seen)
            for content in set(self.seen.values()):
                best = engine.search_text(content, 1).hits[0]
                true = ToyEncoder().encode("text", [seeded_pixels(content.encode())])[0]
                assert abs(best.score - float(true @ true)) < 1e-3
                assert self.seen[str(best.path.relative_to(self.photos))] == content

    @invariant()
    def described_pictures_have_one_name_which_is_right(self):
        if not self.layout.exists():
            return
        with catalogs.open_read(self.layout) as catalog:
            described = {made.digest for made in catalog.derived.list_texts(0, 99)[0]}
            for item in catalog.list_live_pictures(0, 99):
                names = [text.text for text in item.picture.texts if text.source == "tags"]
                is_described = item.digest in described
                assert names == ([content_of(item.digest)] if is_described else [])

    @invariant()
    def it_is_sound(self):
        if not self.layout.exists():
            return
        with catalogs.open_snapshot(self.layout) as copy:
            assert list(copy.find_problems()) == []
            bound = copy.identity()
            if bound is not None:
                fusion = make_fusion(bound.fusion)
                plugin = load_vector_index_plugin
                assert list(check_vectors(self.layout, copy, plugin, fusion)) == []


class NamingEnricher:
    """Names the content whose toy vector is that of a picture."""

    def describe(self, images):
        names = ("one", "two", "three")
        known = ToyEncoder().encode("text", [seeded_pixels(name.encode()) for name in names])
        return [(Text("tag", names[row], None, "tags"),) for row in (images @ known.T).argmax(1)]


def content_of(digest):
    import hashlib

    for content in ("one", "two", "three", "bad"):
        if hashlib.sha256(content.encode()).digest() == digest:
            return content
    raise AssertionError(digest)


TestStore = Store.TestCase
TestStore.settings = settings(
    max_examples=examples(12),
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
