"""Several runs at once on an index whose catalog is in PostgreSQL, and what they exclude."""

import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Thread

import numpy as np
import psycopg
import pytest

from mmsearch.core.errors import IndexLockedError, StorageError
from mmsearch.core.records import FOLDER_KIND, RECORDS_KIND, Root
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from tests.cluster import services
from tests.conftest import COMMAND
from tests.index_contents import load_stored_files

pytestmark = services.MARKS
INDEX = "trip"
FOLDERS = ("first", "second", "third")


@pytest.fixture(scope="module")
def server(start_service):
    return start_service("postgres")


@pytest.fixture
def place(server, monkeypatch, tmp_path):
    """The place of a catalog that is not there yet."""
    from mmsearch.catalog.postgres import parse_url

    monkeypatch.setenv("PGPASSWORD", server["POSTGRES_PASSWORD"])
    return parse_url(server["POSTGRES_URL"], tmp_path / "locked/catalog.sqlite")


@pytest.fixture
def start(place):
    """Function that starts a run, as a lock, on a source: ``start(kind, uri)``."""
    from mmsearch.catalog.postgres_lock import RunLock

    locks = []

    def begin(kind, uri, roots=(), timeout_s=0.0):
        lock = RunLock(place, INDEX, timeout_s)
        locks.append(lock)
        lock.take_source(kind, uri, lambda: [Root(1, "root", root) for root in roots])
        return lock

    yield begin
    for lock in locks:
        lock.release()


@pytest.mark.parametrize("folder", [b"/a/b", b"/a/b/", b"/a", b"/", b"/a/b/c/d"])
def test_run_on_same_folder_around_it_or_inside_is_refused_in_one_sentence(start, folder):
    start(FOLDER_KIND, b"/a/b")
    with pytest.raises(IndexLockedError) as caught:
        start(FOLDER_KIND, folder)
    assert caught.value.message.startswith(f"{folder.decode()} is being indexed to 'trip' by proc")
    assert caught.value.message.count(". ") == 0


def test_runs_on_other_sources_go_on_together(start):
    start(FOLDER_KIND, b"/a/b")
    start(FOLDER_KIND, b"/a/bc")
    start(FOLDER_KIND, b"/a/c")
    start("archive", b"/a/b/photos.zip")
    start(RECORDS_KIND, b"")
    with pytest.raises(IndexLockedError, match=r"^A program's pictures are being added to 'trip'"):
        start(RECORDS_KIND, b"")
    with pytest.raises(IndexLockedError, match=r"^/a/b/photos\.zip is being indexed"):
        start("archive", b"/a/b/photos.zip")


def test_runs_on_folders_of_one_root_are_runs_on_one_source(start):
    start(FOLDER_KIND, b"/a/b", roots=[b"/a"])
    with pytest.raises(IndexLockedError, match=r"^/a is being indexed"):
        start(FOLDER_KIND, b"/a/c", roots=[b"/a"])
    start(FOLDER_KIND, b"/b", roots=[b"/a"])


def test_root_that_another_run_adds_meanwhile_is_the_source(place, start):
    from mmsearch.catalog.postgres_lock import RunLock

    lock = RunLock(place, INDEX)
    roots = iter([[], [Root(1, "a", b"/a")], [Root(1, "a", b"/a")], [Root(1, "a", b"/a")]])
    lock.take_source(FOLDER_KIND, b"/a/b", lambda: next(roots))
    with pytest.raises(IndexLockedError, match=r"^/a is being indexed"):
        start(FOLDER_KIND, b"/a/c", roots=[b"/a"])
    lock.release()
    start(FOLDER_KIND, b"/a/c", roots=[b"/a"])


def test_what_needs_the_whole_index_excludes_runs_and_is_excluded(place, start):
    from mmsearch.catalog.postgres_lock import AdvisoryLock

    whole = AdvisoryLock(place, INDEX)
    run, other = start(FOLDER_KIND, b"/a"), start(FOLDER_KIND, b"/b")
    with pytest.raises(IndexLockedError, match=r"by process .+ and 1 other run"):
        whole.acquire()
    run.release()
    with pytest.raises(IndexLockedError, match=r"by process \d+ on [^ ]+ since [^ ]+\. "):
        whole.acquire()
    other.release()
    whole.acquire()
    with pytest.raises(IndexLockedError, match=r"^Index 'trip' is being written by process"):
        start(FOLDER_KIND, b"/a")
    whole.release()
    start(FOLDER_KIND, b"/a")


def test_run_waits_for_its_source(start):
    first = start(FOLDER_KIND, b"/a")
    Thread(target=lambda: (time.sleep(0.3), first.release())).start()
    started_s = time.monotonic()
    start(FOLDER_KIND, b"/a", timeout_s=20)
    assert 0.2 < time.monotonic() - started_s < 10


def test_only_a_run_that_is_alone_is_so_and_new_ones_wait_meanwhile(start):
    run = start(FOLDER_KIND, b"/a")
    with run.alone() as is_alone:
        assert is_alone
        started = []
        thread = Thread(target=lambda: started.append(start(FOLDER_KIND, b"/b")))
        thread.start()
        thread.join(0.5)
        assert not started
    thread.join(20)
    assert started
    for each in (run, *started):
        with each.alone() as is_alone:
            assert not is_alone


def test_work_is_done_by_one_run_at_a_time(start):
    first, second = start(FOLDER_KIND, b"/a"), start(FOLDER_KIND, b"/b")
    waits, done = [], []

    def work():
        with second.one_at_a_time("publish", lambda: waits.append(1)):
            done.append(1)

    with first.one_at_a_time("publish", lambda: waits.append(2)):
        with second.one_at_a_time("describe", lambda: waits.append(3)):
            pass
        thread = Thread(target=work)
        thread.start()
        thread.join(0.5)
        assert (waits, done) == ([1], [])
    thread.join(20)
    assert (waits, done) == ([1], [1])


def end_connections(place):
    """End the connections that hold locks, as a restart of the server does."""
    with psycopg.connect(place.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name LIKE 'mmsearch writer%'"
        )


def test_run_that_lost_its_locks_commits_nothing(place, start):
    """Another run may have been alone meanwhile, and removed files of this one."""
    from mmsearch.catalog.postgres_maintenance import open_postgres_writer

    run = start(FOLDER_KIND, b"/a")
    with closing(open_postgres_writer(place, create=True, run=run)) as catalog:
        catalog.ensure_root(b"/a")
        end_connections(place)
        for attempt in (lambda: catalog.ensure_root(b"/b"), run.check, run.alone().__enter__):
            with pytest.raises(StorageError) as caught:
                attempt()
            assert str(caught.value) == (
                "The connection that holds the locks of index 'trip' was lost."
                " Run again; all committed data is safe."
            )
        with start(FOLDER_KIND, b"/a").alone() as is_alone:
            assert is_alone
        assert [root.path for root in catalog.roots()] == [b"/a"]


# --- commands ---


class Commands:
    """The installed command, with an index whose catalog is on the server."""

    def __init__(self, home, environment):
        self.home = home
        self.environment = environment | {"MMSEARCH_HOME": str(home)}

    def start(self, *arguments):
        return subprocess.Popen(
            [COMMAND, *arguments],
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def index(self, folder):
        return self.start("index", folder, "--index", INDEX, "--json")

    def call(self, *arguments):
        """Return what the command prints; it must end well."""
        return finish(self.start(*arguments))

    def refuse(self, *arguments):
        """Return what the command says when it refuses."""
        out, problem = (process := self.start(*arguments)).communicate(timeout=120)
        assert process.returncode in (1, 2), out
        assert "Traceback" not in problem
        return problem


def finish(process):
    out, problem = process.communicate(timeout=180)
    assert process.returncode == 0, problem
    assert "Traceback" not in problem
    return out


@contextmanager
def killed_at_end(processes):
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def wait_for_files(url, folder, process):
    """Wait until a run has committed some files of a folder."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        end = time.monotonic() + 120
        count = (
            "SELECT count(*) FROM trip.assets JOIN trip.sources ON sources.id = source_id"
            " WHERE uri = %s"
        )
        while True:
            ((committed,),) = connection.execute(count, [bytes(folder)]).fetchall()
            if committed:
                return
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.02)


def vectors_of(layout):
    """Return the image vector of each content by digest."""
    with catalogs.open_read(layout) as catalog:
        stored = load_stored_files(layout, catalog).values()
        with catalog.snapshot() as snapshot:
            pictures = snapshot.pictures
    vectors = {file.digest: vector for file, vector in stored}
    assert len(vectors) == pictures
    return vectors


@pytest.fixture
def folders(photos, tmp_path):
    """150 photographs in three folders; every 20th is in two of them."""
    for number, path in enumerate(sorted(Path(photos, "photos").iterdir())[:150]):
        for name in {FOLDERS[number % 3], FOLDERS[(number + (number % 20 == 0)) % 3]}:
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / name / path.name)
    return [tmp_path / name for name in FOLDERS]


def test_three_runs_of_which_one_is_killed_store_what_one_run_stores(
    server, folders, photo_index, environment, monkeypatch, tmp_path
):
    url, password = server["POSTGRES_URL"], server["POSTGRES_PASSWORD"]
    monkeypatch.setenv("PGPASSWORD", password)
    commands = Commands(tmp_path, environment | {"MMSEARCH_CATALOG_PASSWORD": password})
    assert "PostgreSQL" in commands.call("init", INDEX, "--catalog", url)
    runs = [commands.index(folder) for folder in folders]
    with killed_at_end(runs):
        wait_for_files(url, folders[0], runs[0])
        runs[0].send_signal(signal.SIGKILL)
        runs[0].communicate()
        runs.append(commands.index(folders[0]))
        reports = [json.loads(finish(run))["report"] for run in runs[1:]]
    assert [report["failed"] for report in reports] == [[]] * 3

    # The next run alone finds nothing to do, and removes what the killed one has left.
    report = json.loads(finish(commands.index(folders[0])))["report"]
    assert (report["encoded"], report["added"]) == (0, 0)
    layout, one_run = IndexLayout(tmp_path / INDEX), IndexLayout(Path(photo_index) / "default")
    vectors, expected = vectors_of(layout), vectors_of(one_run)
    assert len(vectors) == 150
    for digest, vector in vectors.items():
        np.testing.assert_allclose(vector, expected[digest], atol=1e-3)
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert catalog.file_count() == sum(len(list(folder.iterdir())) for folder in folders)
        assert snapshot.unindexed_segments == []
        assert snapshot.built.rows == len(vectors)
        assert {name for name, _ in layout.files()} == catalog.referenced_files()
    assert json.loads(commands.call("check", "--index", INDEX, "--json"))["findings"] == []
    assert not layout.catalog.exists()
    out = commands.call("query", "a red car", "--index", INDEX, "--json", "-k", "5")
    assert len(json.loads(out)["hits"]) == 5


def test_commands_say_what_is_active_and_where_the_catalog_is(
    server, folders, environment, monkeypatch, tmp_path
):
    from mmsearch.catalog.postgres import parse_url
    from mmsearch.catalog.postgres_lock import RunLock

    url, password = server["POSTGRES_URL"], server["POSTGRES_PASSWORD"]
    monkeypatch.setenv("PGPASSWORD", password)
    commands = Commands(tmp_path, environment | {"MMSEARCH_CATALOG_PASSWORD": password})
    commands.call("init", "busy", "--catalog", url)
    lock = RunLock(parse_url(url, tmp_path / "busy/catalog.sqlite"), "busy")
    lock.take_source(FOLDER_KIND, bytes(folders[0]), list)
    try:
        problem = commands.refuse("index", folders[0], "--index", "busy")
        assert f"Error: {folders[0]} is being indexed to 'busy' by process" in problem
        problem = commands.refuse("remove", "busy", "--yes")
        assert "Index 'busy' is being written by process" in problem
        (writer,) = json.loads(commands.call("status", "--index", "busy", "--json"))["writers"]
        assert writer.startswith(f"process {os.getpid()} on ")
    finally:
        lock.release()
    # The same name elsewhere would write to the same schema.
    (tmp_path / "elsewhere").mkdir()
    problem = commands.refuse("init", "busy", "--catalog", url, "--home", tmp_path / "elsewhere")
    assert "has the catalog of an index" in problem
    assert not (tmp_path / "elsewhere/busy").exists()
    unknown = Commands(tmp_path, environment | {"MMSEARCH_CATALOG_PASSWORD": "wrong"})
    unknown.refuse("query", "a red car", "--index", "busy")
    commands.call("remove", "busy", "--yes")
