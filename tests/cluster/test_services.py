"""The services of tests start, answer and end, and leave nothing running."""

import socket
import subprocess
import sys

import pytest

from tests.cluster import services

pytestmark = services.MARKS


def test_service_answers_and_stops_all_its_processes(tmp_path):
    folder = tmp_path / "s3"
    with services.service("s3", folder) as said:
        address = "127.0.0.1", int(said["S3_PORT"])
        socket.create_connection(address, 5).close()
        assert services.processes_of(folder) != []
    assert services.processes_of(folder) == []
    with pytest.raises(OSError):  # noqa: PT011 - several kinds say that nobody listens
        socket.create_connection(address, 1)


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
