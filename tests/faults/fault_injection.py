"""Commands that run with failing system calls; see injector.c."""

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE / "injector.c"

SHORT_CALL = 0
"""Value in place of an error number: the call does half of its work."""

ERRORS = {
    "open": (errno.EMFILE, errno.ENOSPC, errno.EIO, errno.ENOMEM),
    "read": (errno.EIO, SHORT_CALL),
    "write": (errno.ENOSPC, errno.EIO, SHORT_CALL),
    "fsync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.ENOSPC, errno.EIO),
    "mmap": (errno.ENOMEM, errno.EMFILE),
    "ftruncate": (errno.ENOSPC, errno.EIO),
    "unlink": (errno.EIO,),
    "mkdir": (errno.ENOSPC, errno.EIO),
    "list": (errno.EMFILE, errno.EIO),
    "stat": (errno.EIO, errno.ENOMEM),
    "lock": (errno.ENOLCK, errno.EIO),
}
"""Kinds of calls, and the errors with which they fail."""

KINDS = tuple(ERRORS)


@dataclass(frozen=True)
class Fault:
    """The n-th call of a kind fails."""

    kind: str
    nth: int
    errno: int
    sticky: bool = False

    def __str__(self):
        name = errno.errorcode.get(self.errno, "short")
        return f"{self.kind} {self.nth}{'+' if self.sticky else ''} {name}"


@dataclass
class CommandResult:
    """Result of a command that has ended."""

    code: int
    out: str
    err: str
    timed_out: bool = False
    failed: int = 0
    failed_path: str = ""
    calls: dict = field(default_factory=dict)

    @property
    def errors(self):
        """The lines of stderr that name errors."""
        return [line for line in self.err.splitlines() if line.startswith("Error: ")]


def compile_injector(folder):
    """Build the library; return its path, or None if there is no compiler."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "injector.so"
    subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"],
        check=True,
        capture_output=True,
    )
    return library


class ToyCommandServer:
    """Runs toy commands, each in its own process; see `tests.faults.toy_command`.

    Args:
        library: Path that `compile_injector` returned.
    """

    def __init__(self, library):
        self.library = library
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.toy_command"],
            cwd=HERE.parents[1],
            env=os.environ
            | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, runner, arguments, sandbox, *, fault=None, prefixes=None, mutant=""):
        """Run one command.

        Args:
            runner: ``command``, ``watch``, ``python`` or ``http``.
            arguments: Its arguments.
            sandbox: A `Sandbox`.
            fault: A `Fault`.
            prefixes: Folders in which calls count; default: all but the pictures.
            mutant: A defect of the writer.
        """
        request = {
            "runner": runner,
            "arguments": arguments,
            "environment": sandbox.environment,
            "prefixes": [str(folder) for folder in prefixes or sandbox.owned_folders],
            "fault": vars(fault) if fault else None,
            "mutant": mutant,
            "kinds": KINDS,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return CommandResult(**json.loads(self._process.stdout.readline()))

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


class Sandbox:
    """Folders of one run: pictures, indexes, temporary files, backups.

    Args:
        folder: Parent of the folders.
    """

    def __init__(self, folder):
        self.folder = folder
        self.photos = folder / "photos"
        self.home = folder / "home"
        self.backups = folder / "backups"
        self.owned_folders = [self.home, self.backups, folder / "tmp", folder / "cache"]
        self.environment = {
            "MMSEARCH_HOME": str(self.home),
            "MMSEARCH_CACHE": str(folder / "cache"),
            "MMSEARCH_CONFIG": str(folder / "settings.toml"),
            "XDG_RUNTIME_DIR": str(folder),
            "TMPDIR": str(folder / "tmp"),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "120",
        }

    def make(self):
        """Make the folders."""
        for folder in (self.photos, *self.owned_folders):
            folder.mkdir(parents=True, exist_ok=True)
        return self

    def write(self, *names):
        """Write pictures."""
        for name in names:
            path = self.photos / f"{name}.toy"
            path.write_text(name)
            os.utime(path, ns=(10**9, 10**9))

    def copy_to(self, folder):
        """Replace a folder by a copy of this sandbox."""
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder, symlinks=True)
        return Sandbox(folder)


def sample_numbers(count, max_numbers, seed):
    """Sample at most ``max_numbers`` of 1..count, including the first and the last."""
    if count <= max_numbers:
        return range(1, count + 1)
    inner = random.Random(seed).sample(range(2, count), max(0, max_numbers - 2))
    return sorted({1, count, *inner})
