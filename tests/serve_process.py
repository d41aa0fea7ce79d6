"""A command that serves an index until it is told to end."""

import signal
import subprocess
from contextlib import contextmanager


class ServerProcess:
    """One that runs."""

    def __init__(self, command, environment, stop_signal):
        # Unbuffered, for what a line's buffer has read besides, communicate() does not give back.
        self.process = subprocess.Popen(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._stop_signal = stop_signal
        self._is_signaled = False

    def line(self):
        """The next line that it says."""
        return self.process.stderr.readline().decode()

    def end(self):
        """Tell it to end, once."""
        if not self._is_signaled:
            self._is_signaled = True
            self.process.send_signal(self._stop_signal)


@contextmanager
def run_serve(command, environment, stop_signal=signal.SIGTERM, code=0):
    """One that says no more than its lines were read, and ends with a code."""
    server = ServerProcess(command, environment, stop_signal)
    try:
        yield server
    finally:
        server.end()
        out, err = server.process.communicate(timeout=60)
    assert (server.process.returncode, out, err) == (code, b"", b"Index 'default' is closed.\n")
