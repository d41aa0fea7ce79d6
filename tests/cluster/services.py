"""Services of tests: started by scripts/services, in a network namespace of the test process.

A test that uses one has ``pytestmark = services.MARKS``. `scripts/test --cluster` runs these tests
in a namespace; elsewhere they are skipped, and pytest lists them with the reason.
"""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 120
MISSING = 77
"""Exit status of a service that cannot run here."""


def is_isolated():
    """Return True if nothing outside this machine can be reached, nor reach its services."""
    return all(name == "lo" or name.startswith("mm") for _, name in socket.if_nameindex())


MARKS = [
    pytest.mark.cluster,
    pytest.mark.enable_socket,
    pytest.mark.skipif(not is_isolated(), reason="needs a namespace: scripts/test --cluster"),
    # Clients of services warn of their own affairs.
    pytest.mark.filterwarnings("default"),
]


def call(name, verb, folder, timeout_s=START_TIMEOUT_S):
    """Call a service, and return the KEY=VALUE lines that it prints, with its FOLDER.

    The test is skipped if what the service needs is not installed.
    """
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    with Path(folder, f"{name}-{verb}.log").open("w+b") as log:
        done = subprocess.run(
            [ROOT / "scripts/services" / name, verb, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # What a service leaves running must not keep a pipe of this process open.
            stderr=log,
            env=environment,
            timeout=timeout_s,
            check=False,
        )
        log.seek(0)
        problem = log.read().decode(errors="replace").strip()
    if done.returncode == MISSING:
        pytest.skip(problem.splitlines()[-1] if problem else f"{name} cannot run here")
    assert done.returncode == 0, f"{name} {verb}: {problem}"
    lines = done.stdout.decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line) | {"FOLDER": str(folder)}


def processes_of(folder, title=b""):
    """Return the ids of the processes of a service whose command line starts with a title."""
    marker = f"MMSEARCH_SERVICE={folder}\0".encode()
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            if marker in environment and command.startswith(title):
                found.append(int(pid))
    return found


@contextmanager
def service(name, folder, timeout_s=START_TIMEOUT_S):
    """Start a service with its data in a folder, yield what it prints, and stop it.

    Args:
        name: Name of the script in scripts/services.
        folder: An empty folder.
        timeout_s: Seconds that it may take to start.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield call(name, "start", folder, timeout_s)
    finally:
        call(name, "stop", folder, 60)
