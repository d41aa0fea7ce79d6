"""Runs a command in a fork of the server at SOCKET and ends as it ends.

`tests.command_server` puts ``SOCKET = ...`` before this file and makes it an executable. It imports
only modules that are built into Python, so that it starts in some milliseconds.
"""

import marshal
import posix
import sys
from _signal import SIG_DFL, SIGINT, SIGTERM, signal
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket


def is_open(descriptor):
    """Return True if a descriptor is open."""
    try:
        posix.fstat(descriptor)
    except OSError:
        return False
    return True


def run_forked(path):
    """Run the command line of this process; return its exit code, negative for a signal."""
    descriptors = [number for number in range(3) if is_open(number)]
    connection = socket(AF_UNIX, SOCK_STREAM)
    while connection.fileno() < 3:  # so that no closed stream becomes the connection
        connection = socket(AF_UNIX, SOCK_STREAM, 0, posix.dup(connection.detach()))
    connection.connect(path)
    message = marshal.dumps((sys.argv[1:], dict(posix.environ), posix.getcwd(), descriptors))
    rights = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
    connection.sendmsg([len(message).to_bytes(8, "big")], [(SOL_SOCKET, SCM_RIGHTS, rights)])
    connection.sendall(message)
    answer = connection.recv(100)
    for number in (SIGINT, SIGTERM):
        signal(number, lambda number, frame: posix.kill(int(answer.split()[0]), number))
    while answer.count(b"\n") < 2:
        received = connection.recv(100)
        if not received:
            return 70
        answer += received
    return int(answer.split()[1])


code = run_forked(SOCKET)  # noqa: F821 - see above
if code < 0:
    for number in (SIGINT, SIGTERM):
        signal(number, SIG_DFL)
    posix.kill(posix.getpid(), -code)
sys.exit(code)
