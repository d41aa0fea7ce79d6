"""Indexing on a Ray cluster of two nodes, of which actors, nodes and the link between them die."""

import json
import os
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
from tests.cluster import services
from tests.index_contents import load_stored_files

pytestmark = services.MARKS

RUN_TIMEOUT_S = 240
ACTOR = b"ray::WorkerActor"


class Cluster:
    """A running cluster and commands on it."""

    def __init__(self, said, environment):
        self.said = said
        self.environment = environment | {
            name: said[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
        }

    def start(self, home, source, *options, code=None, address=None, before=(), **environment):
        """Start a run of the command; ``code`` is Python that runs before it."""
        main = f"{code or ''}\nfrom mmsearch.__main__ import main\nmain()"
        address = address or self.said["RAY_ADDRESS"]
        return subprocess.Popen(
            [
                *(*before, sys.executable, "-c", main, "index", source, "--home", home),
                *("--model", "starter", "--executor", "ray", "--address", address),
                *("--json", *options),
            ],
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=services.ROOT,
        )

    def index(self, home, source, *options, **arguments):
        return report_of(self.start(home, source, *options, **arguments))

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
def cluster(start_service, environment):
    pytest.importorskip("ray")
    return Cluster(start_service("ray"), environment)


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
def expected(photo_index):
    """The files and rows that the local executor stores of the photographs."""
    return stored(photo_index)


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
    again = cluster.index(home, folder)
    assert (again["encoded"], again["unchanged"]) == (0, len(expected[0]))
    # Files of tasks that were done twice are gone, too.
    with catalogs.open_read(IndexLayout(home / "default")) as catalog:
        names = {segment.file_ref.name for segment in catalog.segments()}
    assert {f"segments/{path.name}" for path in (home / "default/segments").iterdir()} == names


def test_ray_stores_what_the_local_executor_stores(cluster, photos, expected, tmp_path):
    report = cluster.index(tmp_path, photos)
    check_complete(cluster, tmp_path, photos, expected, report)
    # Nothing is left of what workers needed during the run.
    assert not list((tmp_path / "default").glob(".shared-*"))
    wait_until(lambda: cluster.actors() == [])


def test_ray_loses_nothing_when_an_actor_is_killed(cluster, photos, expected, tmp_path):
    run = cluster.start(tmp_path, photos)
    wait_for_segment(tmp_path, run)
    os.kill(cluster.actors()[0], signal.SIGKILL)
    check_complete(cluster, tmp_path, photos, expected, report_of(run))


def test_ray_loses_nothing_when_a_node_is_killed(cluster, photos, expected, tmp_path):
    run = cluster.start(tmp_path, photos)
    wait_for_segment(tmp_path, run)
    os.kill(int(cluster.said["WORKER_RAYLET"]), signal.SIGKILL)
    report = report_of(run)
    cluster.restart_worker()
    check_complete(cluster, tmp_path, photos, expected, report)


def test_ray_loses_nothing_when_a_link_is_cut(cluster, photos, expected, tmp_path):
    run = cluster.start(tmp_path, photos)
    wait_for_segment(tmp_path, run)
    link = cluster.said["LINK"]
    subprocess.run(["ip", "link", "set", link, "down"], check=True, timeout=10)
    report = report_of(run)
    cluster.restart_worker()
    check_complete(cluster, tmp_path, photos, expected, report)


def test_ray_frees_its_actors_on_ctrl_c_and_continues_later(cluster, photos, expected, tmp_path):
    run = cluster.start(tmp_path, photos)
    wait_for_segment(tmp_path, run)
    run.send_signal(signal.SIGINT)
    _, message = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "run the same command again to continue" in message
    wait_until(lambda: cluster.actors() == [])
    assert cluster.index(tmp_path, photos)["failed"] == []
    check_equal(tmp_path, expected)


def test_ray_indexes_an_archive(cluster, photos, expected, tmp_path):
    chosen = sorted((photos / "photos").glob("*.jpg"))[:8]
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in chosen:
            archive.write(path, path.name)
    report = cluster.index(tmp_path / "home", tmp_path / "photos.zip")
    assert (report["encoded"], report["failed"]) == (8, [])
    files, _ = stored(tmp_path / "home")
    for name, (digest, vector) in files.items():
        assert digest == expected[0][b"photos/" + name][0]
        np.testing.assert_allclose(vector, expected[0][b"photos/" + name][1], atol=1e-3)


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
