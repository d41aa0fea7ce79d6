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


def run_command(home, *arguments):
    """Run the command as a user does; return its output and its errors."""
    process = subprocess.run(
        [sys.executable, "-m", "mmsearch", *arguments],
        env={**os.environ, "MMSEARCH_HOME": str(home), "PYTHONPATH": str(ROOT)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return process.returncode, process.stdout, process.stderr


def test_commands_keep_the_catalog_of_a_new_index_on_a_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MMSEARCH_CATALOG_PASSWORD", server["POSTGRES_PASSWORD"])
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "config/settings.toml"))
    url = server["POSTGRES_URL"]
    code, out, _ = run_command(tmp_path, "init", "trip", "--catalog", url)
    assert code == 0
    assert "PostgreSQL" in out
    photos = ROOT / "tests/photos/photos"
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.rglob("*.*"))[:5]:
        (few / path.name).symlink_to(path)
    assert run_command(tmp_path, "index", few, "--index", "trip", "--follow-symlinks")[0] == 0
    assert not (tmp_path / "trip/catalog.sqlite").exists()
    code, out, _ = run_command(tmp_path, "query", "a red car", "--index", "trip", "--json")
    assert code == 0
    assert out.count('"path"') >= 5
    # The same name elsewhere would write to the same schema.
    code, _, problem = run_command(tmp_path / "few", "init", "trip", "--catalog", url)
    assert code != 0
    assert "has the catalog of an index" in problem
    assert not (few / "trip").exists()
    monkeypatch.setenv("MMSEARCH_CATALOG_PASSWORD", "wrong")
    code, _, problem = run_command(tmp_path, "query", "a red car", "--index", "trip")
    assert code != 0
    assert "Traceback" not in problem
    monkeypatch.setenv("MMSEARCH_CATALOG_PASSWORD", server["POSTGRES_PASSWORD"])
    assert run_command(tmp_path, "remove", "trip", "--yes")[0] == 0
