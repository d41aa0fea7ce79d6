"""The installed command at a pseudo-terminal."""

import os
import pty
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("mmsearch")


def run_in_terminal(arguments, environment, cwd=None, prepare=lambda terminal: None):
    """Run the command; return its exit code, and its stdout and stderr together, as bytes.

    ``prepare`` sets up the terminal before the command starts.
    """
    controller, terminal = pty.openpty()
    prepare(terminal)
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
        cwd=cwd,
    )
    os.close(terminal)
    output = b""
    while True:
        try:
            chunk = os.read(controller, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(controller)
    return process.wait(60), output
