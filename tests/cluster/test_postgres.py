"""Several writers of one PostgreSQL catalog: nothing twice, nothing lost, also after a kill."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cluster import services
from tests.cluster.postgres_writer import PER_SHARD, contents_of
from tests.unit.catalog.samples import digest_of

pytestmark = services.MARKS
ROOT = Path(__file__).parents[2]
WRITERS = ("one", "two", "three")
SHARDS = 8


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("postgres")


@pytest.fixture(scope="module")
def server(server_folder):
    with services.service("postgres", server_folder) as said:
        yield said


@pytest.fixture
def url(server, request, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", server["POSTGRES_PASSWORD"])
    return f"{server['POSTGRES_URL']}?schema={request.node.name}"


@contextmanager
def started(url, folder, writers=WRITERS, shards=SHARDS):
    """Writers in processes of their own, by name."""
    processes = {
        name: subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.cluster.postgres_writer"),
                *(url, folder, name, str(shards)),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in writers
    }
    try:
        yield processes
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def finish(process):
    """Return the shards that a writer says that it has committed, when it has ended."""
    out, _ = process.communicate(timeout=90)
    assert process.returncode == 0
    return [int(line) for line in out.split()]


def check(url, folder, committed, *, repeated=False):
    """Compare the catalog with what its writers have committed.

    Args:
        url: The catalog.
        folder: The folder of the index.
        committed: Numbers of shards by writer.
        repeated: True if some shards were committed again, with other ids and segments.
    """
    from mmsearch.catalog.postgres import parse_url
    from mmsearch.catalog.postgres_maintenance import open_postgres_reader

    shards = [(writer, shard) for writer, numbers in committed.items() for shard in numbers]
    contents = {digest_of(content) for shard in shards for content in contents_of(*shard)}
    place = parse_url(url, Path(folder) / "catalog.sqlite")
    with closing(open_postgres_reader(place)) as catalog, catalog.snapshot() as snapshot:
        assert list(catalog.find_problems()) == []
        ids = catalog.find_item_ids(contents)
        assert ids.keys() == contents
        assert len(set(ids.values())) == len(contents) == snapshot.pictures
        assert catalog.file_count() == len(shards) * PER_SHARD
        records = snapshot.records(list(ids.values()))
        assert sum(len(record.paths) for record in records) == len(shards) * PER_SHARD
        names = {segment.file_ref.name for segment in catalog.segments()}
        assert len(names) == len(catalog.segments())
        assert repeated or len(names) == len(shards)


def test_three_writers_at_once_write_each_picture_once(url, tmp_path):
    with started(url, tmp_path) as processes:
        committed = {name: finish(process) for name, process in processes.items()}
    assert committed == {name: list(range(SHARDS)) for name in WRITERS}
    check(url, tmp_path, committed)


def test_killed_writer_loses_nothing_and_holds_up_nobody(url, tmp_path):
    with started(url, tmp_path, shards=15) as processes:
        victim = processes["one"]
        said = [int(victim.stdout.readline()) for _ in range(3)]
        victim.send_signal(signal.SIGKILL)
        said += [int(line) for line in victim.stdout]
        committed = {name: finish(processes[name]) for name in ("two", "three")}
    assert committed == {name: list(range(15)) for name in ("two", "three")}
    # It repeats all of its shards; those that are known change nothing.
    with started(url, tmp_path, ["one"], shards=said[-1] + 3) as processes:
        committed["one"] = finish(processes["one"])
    check(url, tmp_path, committed, repeated=True)


def test_killed_server_keeps_all_that_it_has_confirmed(url, server, server_folder, tmp_path):
    with started(url, tmp_path, shards=15) as processes:
        said = [int(processes["one"].stdout.readline()) for _ in range(3)]
        os.kill(int(server["POSTGRES_PID"]), signal.SIGKILL)
        time.sleep(0.5)
        again = services.call("postgres", "start", server_folder)
        server["POSTGRES_PID"] = again["POSTGRES_PID"]
        committed = {name: finish(process) for name, process in processes.items()}
    committed["one"] = said + committed["one"]
    assert committed == {name: list(range(15)) for name in WRITERS}
    check(url, tmp_path, committed)
