"""A command that serves an index until it is told to end."""

import signal
import subprocess
from contextlib import contextmanager


class Staying:
    """One that runs."""

    def __init__(self, command, environment, ends):
        # Unbuffered, for what a line's buffer has read besides, communicate() does not give back.
        self.process = subprocess.Popen(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._ends = ends
        self._told = False

    def line(self):
        """The next line that it says."""
        return self.process.stderr.readline().decode()

    def end(self):
        """Tell it to end, once."""
        if not self._told:
            self._told = True
            self.process.send_signal(self._ends)


@contextmanager
def staying(command, environment, ends=signal.SIGTERM, code=0):
    """One that says no more than its lines were read, and ends with a code."""
    one = Staying(command, environment, ends)
    try:
        yield one
    finally:
        one.end()
        out, err = one.process.communicate(timeout=60)
    assert (one.process.returncode, out, err) == (code, b"", b"Index 'default' is closed.\n")
