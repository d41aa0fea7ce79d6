"""Indexing on a Ray cluster of two nodes, of which actors, nodes and the link between them die."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.segments import read_segment
from tests.cluster import services
from tests.index_contents import load_stored_files
from tests.s3_server import make_bucket, use_test_credentials

pytestmark = services.MARKS

RUN_TIMEOUT_S = 240
MAIN = "from mmsearch.__main__ import main\nmain()"
ACTOR = b"ray::WorkerActor"
PICTURES = 100
S3 = "http://10.78.0.1:9000"
"""Address at which both nodes reach the service s3."""

QUICK_PINGS = """
from mmsearch.executors import _pool
_pool.PING_INTERVAL_S, _pool.SILENCE_TIMEOUT_S = 1, 5
"""


class Cluster:
    """A running cluster and commands on it."""

    def __init__(self, said, environment):
        self.said = said
        self.environment = environment | {
            name: said[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
        }

    def start(self, home, source, *options, code=None, address=None, before=(), **environment):
        """Start a run of the command; ``code`` is Python that runs before it."""
        main = f"{code or ''}\n{MAIN}"
        options = ("--executor", "ray", "--address", address or self.said["RAY_ADDRESS"], *options)
        return self.start_here(home, source, *options, main=main, before=before, **environment)

    def start_here(self, home, source, *options, main=MAIN, before=(), **environment):
        """Start a run of the command on the processes of this host."""
        return subprocess.Popen(
            [
                *(*before, sys.executable, "-c", main, "index", source, "--home", home),
                *("--model", "starter", "--json", *options),
            ],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=services.ROOT,
        )

    def index(self, home, source, *options, **arguments):
        return report_of(self.start(home, source, *options, **arguments))

    def index_by_program(self, home, source):
        """Index again by the program of the guide; return the number of unchanged pictures."""
        guide = (services.ROOT / "docs/how-to/ray.md").read_text(encoding="utf-8")
        (program,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
        for named, value in {
            "10.0.0.1:6379": self.said["RAY_ADDRESS"],
            '"photos"': f'"default", home={str(home)!r}',
            "/mnt/photos": str(source),
        }.items():
            assert named in program
            program = program.replace(named, value)
        done = subprocess.run(
            [sys.executable, "-c", f"{program}\nprint(report.unchanged)"],
            env=self.environment,
            stdout=subprocess.PIPE,
            cwd=services.ROOT,
            timeout=RUN_TIMEOUT_S,
            check=True,
        )
        return int(done.stdout)

    def refuse(self, home, source, *options, **arguments):
        """Run the command, which must refuse; return what it says."""
        run = self.start(home, source, *options, **arguments)
        _, message = run.communicate(timeout=RUN_TIMEOUT_S)
        assert run.returncode == 1, message
        assert "Traceback" not in message
        return message

    def actors(self):
        return services.processes_of(self.said["FOLDER"], ACTOR)

    def restart_worker(self):
        self.said = services.call("ray", "worker", self.said["FOLDER"])


@pytest.fixture(scope="module")
def cluster(start_service, environment, tmp_path_factory):
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Workers have the environment of their node.
        use_test_credentials(patch, tmp_path_factory.mktemp("aws"), S3)
        aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        yield Cluster(start_service("ray"), environment | aws)


@pytest.fixture(scope="module")
def pictures(photos, tmp_path_factory):
    """A folder with some of the photographs."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "photos").mkdir()
    for path in sorted((photos / "photos").glob("*.jpg"))[:PICTURES]:
        shutil.copy2(path, folder / "photos")
    return folder


def report_of(run):
    output, message = run.communicate(timeout=RUN_TIMEOUT_S)
    assert run.returncode == 0, message
    assert "Traceback" not in message
    return json.loads(output)["report"]


def wait_for_segment(home, run):
    """Wait until the first segment of a run is there."""
    end = time.monotonic() + RUN_TIMEOUT_S
    while not any(Path(home, "default/segments").glob("*.vectors")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def wait_until(condition, timeout_s=20):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def stored(home):
    layout = IndexLayout(Path(home) / "default")
    with catalogs.open_read(layout) as catalog:
        files = load_stored_files(layout, catalog)
        rows = sum(segment.rows for segment in catalog.segments())
    return {path: (file.digest, vector) for path, (file, vector) in files.items()}, rows


@pytest.fixture(scope="module")
def expected(cluster, pictures, tmp_path_factory):
    """The files and rows that the local executor stores of the pictures."""
    home = tmp_path_factory.mktemp("local")
    assert report_of(cluster.start_here(home, pictures))["encoded"] == PICTURES
    return stored(home)


def check_equal(home, expected):
    """Compare an index with that of the local executor: nothing is lost, doubled or other."""
    files, rows = stored(home)
    known, known_rows = expected
    assert rows == known_rows
    assert files.keys() == known.keys()
    for path, (digest, vector) in files.items():
        assert digest == known[path][0]
        np.testing.assert_allclose(vector, known[path][1], atol=1e-3)


def check_complete(cluster, home, folder, expected, report):
    assert report["failed"] == []
    assert report["encoded"] == report["added"] == len(expected[0])
    check_equal(home, expected)
    again = report_of(cluster.start_here(home, folder))
    assert (again["encoded"], again["unchanged"]) == (0, len(expected[0]))
    # Files of tasks that were done twice are gone, too.
    with catalogs.open_read(IndexLayout(home / "default")) as catalog:
        names = {segment.file_ref.name for segment in catalog.segments()}
    assert {f"segments/{path.name}" for path in (home / "default/segments").iterdir()} == names


def test_ray_stores_what_the_local_executor_stores(cluster, pictures, expected, tmp_path):
    report = cluster.index(tmp_path, pictures)
    check_complete(cluster, tmp_path, pictures, expected, report)
    assert cluster.index_by_program(tmp_path, pictures) == PICTURES
    # Nothing is left of what workers needed during the run.
    assert not list((tmp_path / "default").glob(".shared-*"))
    wait_until(lambda: cluster.actors() == [])


def test_ray_loses_nothing_when_actors_are_killed_and_stopped(
    cluster, pictures, expected, tmp_path
):
    run = cluster.start(tmp_path, pictures, code=QUICK_PINGS)
    wait_for_segment(tmp_path, run)
    killed, stopped = cluster.actors()
    os.kill(killed, signal.SIGKILL)
    os.kill(stopped, signal.SIGSTOP)
    check_complete(cluster, tmp_path, pictures, expected, report_of(run))
    wait_until(lambda: cluster.actors() == [])


def test_ray_loses_nothing_when_a_node_is_killed(cluster, pictures, expected, tmp_path):
    run = cluster.start(tmp_path, pictures)
    wait_for_segment(tmp_path, run)
    os.kill(int(cluster.said["WORKER_RAYLET"]), signal.SIGKILL)
    report = report_of(run)
    cluster.restart_worker()
    check_complete(cluster, tmp_path, pictures, expected, report)


def test_ray_loses_nothing_when_a_link_is_cut(cluster, pictures, expected, tmp_path):
    run = cluster.start(tmp_path, pictures)
    wait_for_segment(tmp_path, run)
    link = cluster.said["LINK"]
    subprocess.run(["ip", "link", "set", link, "down"], check=True, timeout=10)
    report = report_of(run)
    cluster.restart_worker()
    check_complete(cluster, tmp_path, pictures, expected, report)


def test_ray_frees_its_actors_on_ctrl_c_and_continues_later(cluster, pictures, expected, tmp_path):
    run = cluster.start(tmp_path, pictures)
    wait_for_segment(tmp_path, run)
    run.send_signal(signal.SIGINT)
    _, message = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "run the same command again to continue" in message
    wait_until(lambda: cluster.actors() == [])
    # Here, as later runs may go anywhere.
    assert report_of(cluster.start_here(tmp_path, pictures))["failed"] == []
    check_equal(tmp_path, expected)


def test_ray_workers_send_an_archive_to_a_store_without_seeing_the_folder_of_the_index(
    cluster, start_service, pictures, expected, tmp_path
):
    pytest.importorskip("s3fs")
    start_service("s3")
    client = make_bucket(S3, "indexes")
    chosen = sorted(pictures.rglob("*.jpg"))[:8]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in chosen:
            archive.write(path, path.name)
    # Workers see an empty folder there.
    home, own = tmp_path / "home", tmp_path / "own"
    home.mkdir()
    own.mkdir()
    store = f'"{sys.executable}" -m mmsearch init default --home "{home}" --store s3://indexes/ray'
    mount = f'mount --bind "{own}" "{home}" && {store} >&2 && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, "sh")
    report = cluster.index(home, tmp_path / "photos.zip", before=before)
    assert (report["encoded"], report["failed"]) == (8, [])
    assert list(home.iterdir()) == []
    layout = IndexLayout(own / "default")
    with catalogs.open_read(layout) as catalog:
        (segment,) = catalog.segments()
        name = segment.file_ref.name
        (layout.folder / name).unlink(missing_ok=True)
        client.download_file("indexes", f"ray/{name}", str(layout.folder / name))
        rows = read_segment(layout, segment)
        vectors = dict(zip(rows.ids.tolist(), rows.images, strict=True))
        for path in chosen:
            digest, vector = expected[0][os.fsencode(path.relative_to(pictures))]
            item_id = catalog.find_item_ids([digest])[digest]
            np.testing.assert_allclose(vectors.pop(item_id), vector, atol=1e-3)
    assert vectors == {}


@pytest.mark.parametrize(
    ("address", "reason"),
    [("10.78.0.99:6379", "cannot be reached"), ("10.78.0.1:1", "Connection refused")],
)
def test_ray_refuses_an_unreachable_head_within_seconds(cluster, photos, tmp_path, address, reason):
    started_at = time.monotonic()
    message = cluster.refuse(tmp_path, photos, address=address)
    assert f"The head of the cluster at {address} cannot be reached" in message
    assert reason in message
    # On a busy machine, the start of Python and its imports take as long again.
    assert time.monotonic() - started_at < 5 + 15
    assert not (tmp_path / "default").exists()


def test_ray_refuses_a_wrong_token(cluster, photos, tmp_path):
    message = cluster.refuse(tmp_path, photos, RAY_AUTH_TOKEN="f" * 32)
    assert "refuses this computer's token. Set RAY_AUTH_TOKEN" in message
    assert not (tmp_path / "default").exists()


def test_ray_refuses_to_go_without_a_token(cluster, photos, tmp_path):
    message = cluster.refuse(tmp_path, photos, RAY_AUTH_TOKEN="", HOME=str(tmp_path))
    assert "There is no token for the cluster. Set RAY_AUTH_TOKEN" in message


def test_ray_refuses_another_version_of_mmsearch(cluster, photos, tmp_path):
    code = "import mmsearch; mmsearch.__version__ = '0.0.9'"
    message = cluster.refuse(tmp_path, photos, code=code)
    assert "has mmsearch 0.1.0, but this computer has 0.0.9. Install the same" in message


def test_ray_refuses_another_version_of_ray(cluster, photos, tmp_path):
    code = "import ray; ray.__version__ = '2.59.0'"
    message = cluster.refuse(tmp_path, photos, code=code)
    assert "The cluster has another version of Ray or Python" in message
    assert "2.59.0" in message


def test_ray_refuses_a_cluster_that_is_too_small(cluster, photos, tmp_path):
    message = cluster.refuse(tmp_path, photos, "--workers", "5")
    assert "5 workers need 5 CPUs, but the cluster has" in message
    assert "free ones of 2." in message
    message = cluster.refuse(tmp_path, photos, "--gpus-per-worker", "1")
    assert "No node of the cluster has a GPU" in message


def test_ray_refuses_workers_that_do_not_see_the_folder_of_the_index(cluster, photos, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    mount = f'mount -t tmpfs none "{home}" && exec "$@"'
    message = cluster.refuse(home, photos, before=("unshare", "--mount", "sh", "-c", mount, "sh"))
    assert "does not see the folder of the index" in message
    # It has written nothing into the folder that it sees.
    assert list(home.iterdir()) == []


def test_ray_refuses_workers_that_do_not_see_the_pictures(cluster, photos, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    mount = f'mount --bind "{photos}" "{folder}" && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, "sh")
    message = cluster.refuse(tmp_path / "home", folder / "photos", before=before)
    assert f"A worker does not see the folder {folder / 'photos'}" in message
