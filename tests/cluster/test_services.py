"""The services of tests start, answer and end, and leave nothing running."""

import socket
import subprocess
import sys

import pytest

from tests.cluster import services

pytestmark = services.MARKS


def test_ray_has_two_nodes_and_stops_all_its_processes(tmp_path):
    pytest.importorskip("ray")
    folder = tmp_path / "ray"
    with services.service("ray", folder) as said:
        host, port = said["RAY_ADDRESS"].split(":")
        socket.create_connection((host, int(port)), 5).close()
        assert int(said["HEAD_RAYLET"]) in services.processes_of(folder)
        assert int(said["WORKER_RAYLET"]) in services.processes_of(folder)
    assert services.processes_of(folder) == []
    with pytest.raises(OSError):  # noqa: PT011 - several kinds say that nobody listens
        socket.create_connection((host, int(port)), 1)


def test_call_of_a_service_that_fails_says_why(tmp_path):
    with pytest.raises(AssertionError, match="Unknown: dance"):
        services.call("ray", "dance", tmp_path)


def test_in_namespace_shows_only_the_loopback_interface():
    code = "import socket; print([name for _, name in socket.if_nameindex()])"
    command = [services.ROOT / "scripts/in_namespace", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    if done.returncode == services.MISSING:
        pytest.skip(done.stderr.decode())
    assert done.stdout.decode().strip() == "['lo']"
