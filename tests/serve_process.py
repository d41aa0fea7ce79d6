"""A command that serves an index until it is stopped."""

import signal
import subprocess
from contextlib import contextmanager


class ServerProcess:
    """A running server."""

    def __init__(self, command, environment, stop_signal):
        # Unbuffered: communicate() would not return what a line buffer has already read.
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
        """Return the next line of its stderr."""
        return self.process.stderr.readline().decode()

    def end(self):
        """Signal it to stop, once."""
        if not self._is_signaled:
            self._is_signaled = True
            self.process.send_signal(self._stop_signal)


@contextmanager
def run_serve(command, environment, stop_signal=signal.SIGTERM, code=0):
    """Run a server; assert that it leaves no unread output and ends with a code."""
    server = ServerProcess(command, environment, stop_signal)
    try:
        yield server
    finally:
        server.end()
        out, err = server.process.communicate(timeout=60)
    assert (server.process.returncode, out, err) == (code, b"", b"Index 'default' is closed.\n")
