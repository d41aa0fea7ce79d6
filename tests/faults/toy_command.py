"""A server of toy commands: one process loads mmsearch once and forks for each command.

``python -m tests.faults.toy_command`` reads requests from stdin and writes answers to stdout, one
JSON object per line; see `tests.faults.fault_injection`. The commands are the real ones; the toys
of `tests.toy_index` replace the encoder, the pictures and the decoding processes.
"""

import ctypes
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import ExitStack
from pathlib import Path

import mmsearch
from mmsearch.cli import main as command
from mmsearch.core.errors import MMSearchError
from mmsearch.storage import arrays, atomic
from tests.http_client import http_client
from tests.toy_index import install_toys

PRELOADED_MODULES = [
    "cli.app",
    "cli.index",
    "cli.search_command",
    "cli.maintenance",
    "cli.manage",
    "cli.reindex",
    "cli.optimize",
    "cli.watch",
    "cli.serve",
    "cli.search",
    "catalog.open",
    "catalog.reader",
    "catalog.derived",
    "catalog.derived_commits",
    "catalog.checksum",
    "catalog.checksum",
    "maintenance.check",
    "maintenance.repair",
    "maintenance.backup",
    "indexing.compaction",
    "indexing.spaces",
    "maintenance.repair",
    "vector_indexes.exact",
    "vector_indexes.faiss_flat",
    "vector_indexes.faiss_fastscan",
    "fusions.image",
    "rank_fusions.log_odds",
    "server.app",
    "server.serve",
    "api.open",
    "api.parsing",
    "core.filter_parser",
    "core.folder_choices",
    "server.local_socket",
    "cli.progress",
]
"""Modules that commands import late; a forked process has them already."""

LIBRARIES = [
    "encodings.ascii",
    "encodings.cp437",
    "filelock",
    "numpy.ma",
    "numpy.random",
    "rich.progress",
]

TIMEOUT_S = 60
WATCH_DURATION_S = 2.0


def say(line):
    """Write a line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def break_writer(mutant):
    """Break the writer on purpose."""
    if mutant == "swallows-fsync":

        def fsync(descriptor):
            try:
                os.fsync(descriptor)
            except OSError:
                return

        atomic.os = type("Os", (), {**vars(os), "fsync": staticmethod(fsync)})
    elif mutant == "ignores-short-writes":

        class Careless(atomic.AtomicFile):
            def write(self, data):
                view = memoryview(data).cast("B")
                self._file.flush()
                os.write(self._file.fileno(), view)
                self._file.seek(0, os.SEEK_END)
                self._digest.update(view)
                self._size += len(view)

        atomic.AtomicFile = arrays.AtomicFile = Careless
    elif mutant == "swallows-everything":
        run_command = command.run_command
        command.run_command = lambda app: run_command(app) and 0


def run_command(arguments):
    """Run the command line."""
    return command.run(arguments)


def run_watch(arguments):
    """Run the command line, and interrupt it once it has had time for a run or two."""

    def interrupt():
        time.sleep(WATCH_DURATION_S)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    return command.run(arguments)


def run_python(name, *arguments):
    """Call a method of an index; print the error's name and sentence."""
    try:
        with mmsearch.open_index() as index:
            say(str(getattr(index, name)(*arguments)))
    except MMSearchError as error:
        say(f"{type(error).__name__}: {error}")
        return 1
    return 0


def run_http(requests):
    """Ask a server of the index; print a status, a media type and a body for each request."""
    with ExitStack() as stack:
        client = stack.enter_context(http_client(Path(os.environ["MMSEARCH_HOME"])))
        for method, path, *rest in requests:
            run_request = client.request(method, path, **(rest[0] if rest else {}))
            media_type = run_request.headers.get("content-type", "")
            say(json.dumps([run_request.status_code, media_type, run_request.text]))
    return 0


def run_verify(names):
    """Print the findings about an index and the pictures that it finds as their own first hit."""
    with mmsearch.open_index() as index:
        if not index.exists():
            say(json.dumps({"damage": [], "unknown": [], "found": [], "held": 0}))
            return 0
        findings = index.check().findings
        status = index.status()
        found = []
        for name in names if status.identity else ():
            hits = index.search(name, 3, mode="vector")
            if hits and hits[0].path.name == f"{name}.toy" and hits[0].score > 0.999:
                found.append(name)
        messages = {
            weight: [
                f"{finding.part}: {finding.message}"
                for finding in findings
                if finding.weight == weight
            ]
            for weight in ("damage", "unknown")
        }
        facts = {"damage": messages["damage"], "unknown": messages["unknown"], "found": found}
        say(json.dumps(facts | {"held": status.pictures}))
    return 0


RUNNERS = {
    "command": run_command,
    "watch": run_watch,
    "python": run_python,
    "http": run_http,
    "verify": run_verify,
}


def run_child(request, out, err):
    """Run one command in its own process."""
    os.setsid()
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    break_writer(request.get("mutant", ""))
    sys.argv = ["mmsearch", *map(str, request["arguments"])]
    runner = RUNNERS[request["runner"]]
    arguments = request["arguments"]
    arm_injector(request)
    try:
        code = runner(arguments) if runner is not run_python else runner(*arguments)
    except BaseException:  # noqa: BLE001 - the test reads it
        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def arm_injector(request):
    fault = request.get("fault") or {"kind": "", "nth": 0, "errno": 0, "sticky": False}
    INJECTOR.injector_arm(
        ":".join(request["prefixes"]).encode(),
        fault["kind"].encode(),
        fault["nth"],
        fault["errno"],
        int(fault["sticky"]),
    )


def run_request(request):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            run_child(request, out.fileno(), err.fileno())
        signal.alarm(TIMEOUT_S)
        timed_out = False
        try:
            _, status = os.waitpid(pid, 0)
        except TimeoutError:
            timed_out = True
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        signal.alarm(0)
        read = []
        for file in (out, err):
            file.seek(0)
            read.append(file.read().decode("utf-8", "replace"))
    return {
        "code": os.waitstatus_to_exitcode(status),
        "timed_out": timed_out,
        "out": read[0],
        "err": read[1],
        "failed": INJECTOR.injector_failed(),
        "failed_path": INJECTOR.injector_failed_path().decode("utf-8", "replace"),
        "calls": {kind: INJECTOR.injector_calls(kind.encode()) for kind in request["kinds"]},
    }


def on_alarm(number, frame):
    raise TimeoutError


def main():
    for name in PRELOADED_MODULES:
        importlib.import_module(f"mmsearch.{name}")
    for name in LIBRARIES:
        importlib.import_module(name)
    install_toys()
    signal.signal(signal.SIGALRM, on_alarm)
    gc.freeze()
    for line in sys.stdin:
        say(json.dumps(run_request(json.loads(line))))


if __name__ == "__main__":
    INJECTOR = ctypes.CDLL(os.environ["LD_PRELOAD"])
    INJECTOR.injector_calls.restype = INJECTOR.injector_failed.restype = ctypes.c_long
    INJECTOR.injector_failed_path.restype = ctypes.c_char_p
    INJECTOR.injector_arm.argtypes = [
        ctypes.c_char_p,
        ctypes.c_char_p,
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_int,
    ]
    main()
