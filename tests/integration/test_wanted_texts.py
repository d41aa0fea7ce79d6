"""Texts of models that sources want: any history ends as a fresh run, and searches go on."""

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mmsearch
from mmsearch.core.derived import EnricherInput
from mmsearch.core.reports import Verdict
from mmsearch.core.settings import Settings
from mmsearch.core.types import Text
from mmsearch.factories import catalogs
from mmsearch.maintenance import describe
from mmsearch.maintenance.folders import FolderRun, add_folder
from mmsearch.storage.layout import IndexLayout
from tests.http_client import http_client
from tests.integration.test_indexer_law import write
from tests.property_budget import examples
from tests.toy_index import make_toys, replaced

FILES = ("a/one.toy", "a/sub/two.toy", "a/sub/three.toy", "b/four.toy", "b/five.toy")
PLACES = ("a", "a/sub", "b")
CHOICES = (
    None,
    {},
    {"ocr": {}},
    {"ocr": {}, "tags": {"vocabulary": "/first.txt"}},
    {"tags": {"vocabulary": "/second.txt"}},
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sampled_from(PLACES), st.sampled_from(CHOICES)),
        st.tuples(st.just("write"), st.sampled_from(FILES), st.sampled_from("xyz")),
        st.tuples(st.just("delete"), st.sampled_from(FILES)),
        st.tuples(st.just("index"), st.sampled_from(PLACES), st.sampled_from([0, 0, 0, 1, 2])),
    ),
    max_size=9,
)


class ToyEnricher:
    """Enricher that says which options it had; it cannot read one of the contents."""

    READS = EnricherInput.VECTORS
    KINDS = frozenset({"image"})

    def __init__(self, name):
        self._name = name

    def fingerprint(self, options, encoder):
        return f"{self._name}-{options.vocabulary}"

    def build(self, options):
        return ToyDescriber(self._name, str(options.vocabulary))


class ToyDescriber:
    def __init__(self, name, vocabulary):
        self._name, self._vocabulary = name, vocabulary

    def describe(self, images):
        words = [
            f"{self._vocabulary} {hashlib.sha256(row.tobytes()).hexdigest()}" for row in images
        ]
        return [(Text("tag", word, None, self._name, None, 0.5),) for word in words]


class Library:
    """Two folders of toys, and indexes of them."""

    def __init__(self, folder):
        self.folder = folder
        self._ticks = 0
        for number, name in enumerate(FILES):
            self.write(name, "xyz"[number % 3])

    def write(self, name, content):
        self._ticks += 1
        write(self.folder, name.encode(), f"content {content}".encode(), self._ticks)

    def run(self, layout, place, choice=(), interrupt_after=0):
        """Index a folder, and return the number of contents that were described.

        ``choice`` is () to keep what is wanted, and None to reset it.
        """
        described = 0

        def progress(state):
            nonlocal described
            described += state.phase in ("tags", "ocr")
            if interrupt_after and described > interrupt_after:
                raise KeyboardInterrupt

        values = {"describe": choice} if isinstance(choice, dict) else {}
        reset = ("describe",) if choice is None else ()
        folder = os.fsencode(self.folder / place)
        run = FolderRun(folder, values, reset=reset, allow_empty=True)
        settings = Settings(model="toy")
        try:
            report = add_folder(layout, settings, lambda message: None, run, None, 0, progress)
        except KeyboardInterrupt:
            assert interrupt_after
            return described
        assert not any(work.error or work.left for work in report.described)
        return sum(work.described for work in report.described)


def load_rows(layout):
    """Return the fingerprint and the texts of each content and enricher."""
    with catalogs.open_read(layout) as catalog:
        return {
            (made.digest, made.enricher): (made.made_by, made.texts)
            for made in catalog.derived.list_texts(0, 1000)[0]
        }


# A content of both folders, whose choices differ, and one of a folder with a choice of its own.
@example([("delete", "b/five.toy")], [CHOICES[3], CHOICES[0], CHOICES[4]])
@example([("want", "a", CHOICES[4]), ("index", "a", 1)], [CHOICES[2], CHOICES[1], CHOICES[0]])
@given(STEPS, st.lists(st.sampled_from(CHOICES), min_size=3, max_size=3))
@settings(
    max_examples=examples(30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_history_of_wanted_texts_ends_as_a_fresh_run(tmp_path_factory, steps, wanted):
    library = Library(tmp_path_factory.mktemp("library"))
    layout, fresh = (IndexLayout(library.folder / "home" / name) for name in ("old", "new"))
    toys = make_toys() | {
        (describe, "load_enricher"): ToyEnricher,
        (describe, "with_index_encoder"): lambda options, *parts: options,
        (describe, "check_describe_choice"): lambda choice, settings: None,
        (describe, "VECTOR_PAGE_SIZE"): 2,
    }
    with replaced(toys):
        for place in ("a", "b"):
            library.run(layout, place)
        for action, name, *values in steps:
            if action == "want":
                library.run(layout, name, values[0])
            elif action == "write":
                library.write(name, values[0])
            elif action == "delete":
                (library.folder / name).unlink(missing_ok=True)
            else:
                library.run(layout, name, interrupt_after=values[0])
        # What a content gets does not depend on the order of the runs.
        for index, order in ((layout, "ba"), (fresh, "ab")):
            for place in ("a", "b"):
                library.run(index, place)
            for place, choice in zip(PLACES, wanted, strict=True):
                library.run(index, place, choice)
            for place in order:
                library.run(index, place)
            assert [library.run(index, place) for place in order] == [0, 0]
    rows, expected = load_rows(layout), load_rows(fresh)
    # What an earlier choice made stays; what is wanted is as in the fresh index.
    assert {key: rows.get(key) for key in expected} == expected


# --- real photographs ---

NUM_PHOTOS = 16


@pytest.fixture
def index(tmp_path, environment, photos, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    (tmp_path / "photos").mkdir()
    for path in sorted((photos / "photos").glob("*.jpg"))[:NUM_PHOTOS]:
        shutil.copy(path, tmp_path / "photos")
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(tmp_path / "photos")
        yield index


def test_searches_go_on_while_pictures_are_described(index, monkeypatch):
    monkeypatch.setattr(describe, "VECTOR_PAGE_SIZE", 1)
    index.search("warm", k=1)
    searched, errors = [], []
    is_done = threading.Event()

    def search():
        while not is_done.is_set():
            started_at = time.monotonic()
            try:
                hits = index.search("an animal", k=NUM_PHOTOS, mode="vector")
            except mmsearch.MMSearchError as error:
                errors.append(error)
                return
            searched.append((time.monotonic() - started_at, len(hits)))

    def slow(state):
        time.sleep(0.1)

    thread = threading.Thread(target=search)
    thread.start()
    started_at = time.monotonic()
    try:
        with mmsearch.open_index(home=index.folder.parent) as writer:
            (report,) = writer.describe("tags", progress=slow)
    finally:
        is_done.set()
        thread.join()
    lasted_s = time.monotonic() - started_at
    assert (report.described, errors) == (NUM_PHOTOS, [])
    assert {count for _, count in searched} == {NUM_PHOTOS}
    # No search waits for the writer: the slowest takes a fraction of the time that it holds.
    assert len(searched) > NUM_PHOTOS
    assert max(seconds for seconds, _ in searched) < lasted_s / 2
    assert index.check().verdict is Verdict.SOUND


def test_job_of_the_server_describes_what_is_new(index, tmp_path, photos):
    index.set_source("photos", describe="tags")
    shutil.copy(sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS], tmp_path / "photos")
    with http_client(tmp_path / "home") as server:
        place = "/v1/indexes/default"
        (before,) = server.get(place).json()["derived"]
        assert (before["enricher"], before["done"], before["left"]) == ("tags", 0, NUM_PHOTOS)
        job = server.post(f"{place}/jobs", json={}).json()
        until = time.monotonic() + 60
        while job["state"] == "running" and time.monotonic() < until:
            time.sleep(0.05)
            job = server.get(f"{place}/jobs/{job['id']}").json()
        assert job["state"] == "finished"
        assert (job["report"]["added"], job["report"]["described"]) == (1, NUM_PHOTOS + 1)
        (after,) = server.get(place).json()["derived"]
        assert (after["done"], after["left"], after["is_wanted"]) == (NUM_PHOTOS + 1, 0, True)


def test_watch_describes_new_pictures(index, tmp_path, photos):
    index.set_source("photos", describe="tags")
    stop = threading.Event()
    described = []
    new = sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS]
    for report in index.watch(tmp_path / "photos", settle_s=0.1, stop=stop):
        described.append([work.described for work in report.described])
        if report.added or len(described) > 5:
            stop.set()
        else:
            shutil.copy(new, tmp_path / "photos")
    assert described[0] == [NUM_PHOTOS]
    assert described[-1] == [1]


def test_archive_keeps_what_is_wanted(index, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "photos")
    report = index.add_source(archive, describe="tags")
    assert [work.described for work in report.described] == [NUM_PHOTOS]
    source = next(source for source in index.sources() if source.kind == "archive")
    assert source.choices["describe"] == {"tags": {}}
    outcomes = index.refresh(source.name, retry_failed=True)
    assert [work.described for work in outcomes[source.name].described] == [0]
    hit = index.search("an animal", k=1)[0]
    assert index.read_original(hit)
    assert index.set_source(source.name, reset="describe").choices == {}
    assert index.add_source(archive).described == ()
    assert Path(archive).is_file()
