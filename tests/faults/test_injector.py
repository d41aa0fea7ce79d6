"""Failing calls of open, read, write, sync, rename, mmap or unlink lose no committed picture.

For every command some calls are drawn; ``INJECTIONS=200`` draws 200 for each command, and
``INJECTION_SEED`` draws others.
"""

import errno
import json
import os
import random
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.fault_injection import (
    ERRORS,
    KINDS,
    SHORT_CALL,
    Fault,
    Sandbox,
    ToyCommandServer,
    compile_injector,
)

INJECTIONS = int(os.environ.get("INJECTIONS", "0"))
SEED = int(os.environ.get("INJECTION_SEED", "1"))

SENTENCE_ENDS = re.compile(r"[.?!](?=\s|$)")
PUBLISHED = re.compile(r"/(segments|ann)/[^/]+$")
BEFORE, AFTER, GONE = "bc", "bcde", "a"


@dataclass(frozen=True)
class Command:
    """A command and the state in which it starts.

    Attributes:
        runner: See `ToyCommandServer.run`.
        arguments: ``{photos}`` and ``{backups}`` are replaced.
        start: The state in which it begins.
        writes: True if it changes the index.
        injections: Number of calls that fail, one in each run.
        codes: Allowed exit codes.
        needs: Pictures that must be found afterwards, whichever call fails.
        own: True if calls on mmsearch's own files fail; False for calls on pictures.
        result: Pictures that are found after it has succeeded.
        repeats: True if it succeeds a second time.
    """

    runner: str
    arguments: tuple
    start: str = "indexed"
    writes: bool = False
    injections: int = 8
    codes: tuple = (0, 1)
    needs: str = AFTER
    own: bool = True
    result: str = AFTER
    repeats: bool = True


REQUESTS = (
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/v1/indexes"),
    ("GET", "/v1/indexes/default"),
    ("GET", "/v1/indexes/default/search?q=b&mode=vector"),
    ("POST", "/v1/indexes/default/search", {"json": {"query": "b", "mode": "vector"}}),
    ("GET", "/v1/indexes/default/search?q=words&mode=text"),
    ("GET", "/v1/indexes/default/pictures/2"),
    ("GET", "/v1/indexes/default/pictures/2/original"),
    ("GET", "/?q=b"),
)

COMMANDS = {
    "first index": Command(
        "command", ("index", "{photos}"), "pictures", True, needs="", result="abc"
    ),
    "index": Command("command", ("index", "{photos}"), "changed", True, needs=BEFORE),
    "pictures": Command(
        "command", ("index", "{photos}"), "changed", True, 10, (0, 1, 3), BEFORE, own=False
    ),
    "compact": Command("command", ("compact",), writes=True),
    "reindex": Command("command", ("reindex", "--vector-index", "exact"), writes=True),
    "repair": Command("command", ("repair",), writes=True, codes=(0, 1, 4)),
    "fusion": Command(
        "command", ("reindex", "--fusion", "weighted", "--text-weight", "0"), writes=True
    ),
    "optimize": Command("command", ("optimize",), writes=True),
    "roots set": Command("command", ("roots", "set", "photos", "{photos}"), writes=True),
    "watch": Command("watch", ("watch", "{photos}", "--settle", "0"), "changed", True, 6,
                     needs=BEFORE, codes=(0, 1, 130)),
    "backup": Command("command", ("backup", "{backups}/new"), writes=True, repeats=False),
    "restore": Command("command", ("restore", "{backups}/old", "--index", "other"), writes=True,
                       repeats=False),
    "replace": Command("command", ("restore", "{backups}/old", "--replace"), writes=True,
                       repeats=False),
    "remove": Command("command", ("remove", "default", "--yes"), writes=True, needs="", result="",
                      repeats=False),
    "query": Command("command", ("query", "c", "--mode", "vector"), injections=20),
    "query words": Command("command", ("query", "words", "--mode", "text"), injections=20),
    "similar": Command("command", ("similar", "{photos}/c.toy"), injections=10),
    "list": Command("command", ("list",)),
    "roots": Command("command", ("roots",)),
    "status": Command("command", ("status",), injections=14),
    "check": Command("command", ("check", "--sources"), injections=14, codes=(0, 4)),
    "search in Python": Command("python", ("search", "c"), injections=14),
    "add_folder in Python": Command("python", ("add_folder", "{photos}"), "changed", True, 6,
                                    needs=BEFORE),
    "server": Command("http", REQUESTS, injections=14, codes=(0,)),
}  # fmt: skip


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Server of toy commands with the library that makes calls fail."""
    library = compile_injector(tmp_path_factory.mktemp("injector"))
    if library is None:
        pytest.skip("there is no C compiler, or this is not Linux: NO CALL WAS MADE TO FAIL")
    running = ToyCommandServer(library)
    yield running
    running.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in memory if possible, because syncing to a disk would take minutes."""
    memory = Path("/dev/shm")  # noqa: S108 - removed below
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("injected")
        return
    made = memory / f"mmsearch-injected-{os.getpid()}"
    made.mkdir()
    yield made
    shutil.rmtree(made)


class States:
    """Prepared folders from which commands start."""

    def __init__(self, folder, commands):
        self._commands = commands
        self._kept = folder / "kept"
        # Paths are part of an index: every run is in the same place.
        self.place = Sandbox(folder / "run").make()
        place = self.place
        place.write("a", "b", "c")
        (place.photos / "c.toy.txt").write_text("words of c")
        self._keep("pictures")
        self.run("index", "{photos}")
        place.write("d", "e")
        (place.photos / "a.toy").unlink()
        self._keep("changed")
        self.run("index", "{photos}")
        self.run("backup", "{backups}/old")
        self._keep("indexed")

    def _keep(self, name):
        shutil.copytree(self.place.folder, self._kept / name)

    def take(self, name):
        """Restore the folders of a state."""
        shutil.rmtree(self.place.folder)
        shutil.copytree(self._kept / name, self.place.folder)

    def run(self, *arguments):
        """Run a command that must succeed."""
        done = self.ask("command", arguments)
        assert done.code == 0, done
        return done

    def ask(self, runner, arguments, **more):
        """Run a command; see `ToyCommandServer.run`."""
        given = [self.filled(each) if isinstance(each, str) else each for each in arguments]
        return self._commands.run(runner, given, self.place, **more)

    def filled(self, argument):
        return argument.format(photos=self.place.photos, backups=self.place.backups)

    def verify(self):
        """Return facts about the present index."""
        done = self.ask("verify", [*AFTER, *GONE])
        assert done.code == 0, done.err
        return json.loads(done.out)


@pytest.fixture(scope="module")
def states(folder, commands):
    return States(folder, commands)


def drawn(command, calls, rng):
    """Yield the wanted number of faults; none repeats before each kind and error has occurred."""
    each = [
        (kind, error, sticky)
        for kind in KINDS
        for error in ERRORS[kind]
        for sticky in (False, True)
        if calls[kind]
    ]
    wanted = INJECTIONS or command.injections
    for _ in range(-(-wanted // max(1, len(each)))):
        rng.shuffle(each)
        for kind, error, sticky in each[:wanted]:
            yield Fault(kind, rng.randint(1, calls[kind]), error, sticky)
        wanted -= len(each)


def complain_of_command(name, command, done):
    """Yield complaints about the end of a command."""
    said = done.out + done.err
    if done.timed_out:
        yield "it does not end"
    if done.code not in command.codes:
        yield f"it ends with code {done.code}"
    if "Traceback" in said or "unexpected went wrong" in said:
        yield "it is taken for a defect"
    if "is damaged" in said.replace("is damaged, or the power failed", ""):
        yield "what is sound is called damaged"
    if done.code == 1 and command.runner != "python":
        yield from complain_of_error(name, done)
    if done.code == 0 and name in ANSWERS and "c.toy" not in ANSWERS[name](done.out):
        yield "the answer is wrong"


def complain_of_error(name, done):
    """Yield complaints about the error message of a command."""
    if name == "list":
        if "Could not be read: 1" not in done.err:
            yield "it does not say what it could not read"
    elif len(done.errors) != 1:
        yield "it does not say one error"
    elif len(SENTENCE_ENDS.findall(done.errors[0])) < 2:
        yield "the error names no next step"


def first_line(out):
    return out.splitlines()[0]


ANSWERS = {
    "query": first_line,
    "query words": first_line,
    "similar": first_line,
    "search in Python": lambda out: out.split("copies")[0],
}
"""Functions, by command, that return the part of the output that names the first hit."""


def complain_of_answers(done):
    """Yield complaints about a server's answers."""
    for (_, path, *_), line in zip(REQUESTS, done.out.splitlines(), strict=True):
        status, kind, body = json.loads(line)
        if status not in (200, 503, 507):
            yield f"{path} answers {status}: {body[:200]}"
        elif status == 200 and "search?q=b" in path:
            if not json.loads(body)["hits"][0]["path"].endswith("/b.toy"):
                yield f"{path} answers wrongly: {body[:200]}"
        elif status != 200 and not path.startswith("/?"):
            if not kind.startswith("application/problem+json"):
                yield f"{path} answers no problem document: {body[:200]}"
            elif len(SENTENCE_ENDS.findall(json.loads(body)["detail"])) < 2:
                yield f"{path} names no next step: {body[:200]}"


def complain_of_index(states, command, done):
    """Yield complaints about the index that is left."""
    facts = states.verify()
    yield from facts["damage"]
    lost = set(command.needs) - set(facts["found"])
    if lost:
        yield f"lost: {sorted(lost)}"
    if not command.writes:
        return
    if done.code == 0 and set(facts["found"]) != set(command.result):
        yield f"it says that all went well: {facts}"
    if done.code == 0 and "fsync" in done.fault and PUBLISHED.search(done.failed_path):
        yield f"it passes over {done.failed_path}, which was not synced"
    again = states.ask(command.runner, command.arguments)
    had_been_done = not command.repeats and done.code == 0
    # Watching goes on until the runner interrupts it.
    ends_well = (0, 130) if command.runner == "watch" else (0,)
    if again.code not in ends_well and not had_been_done:
        yield f"it does not go well later: {again.err}"
    facts = states.verify()
    yield from facts["damage"]
    if set(facts["found"]) != set(command.result):
        yield f"it is not completed later: {facts}"


def drawn_faults(states, name):
    """Return faults of a command, drawn from all its calls."""
    command = COMMANDS[name]
    states.take(command.start)
    calls = states.ask(command.runner, command.arguments, prefixes=prefixes_of(states, command))
    return drawn(command, calls.calls, random.Random(f"{SEED} {name}"))


def prefixes_of(states, command):
    return None if command.own else [states.place.photos]


def complaints_of(states, name, fault, mutant="", *, thorough=True):
    """Run a command with a failing call; return complaints about its end and the index."""
    command = COMMANDS[name]
    states.take(command.start)
    done = states.ask(
        command.runner,
        command.arguments,
        fault=fault,
        prefixes=prefixes_of(states, command),
        mutant=mutant,
    )
    done.fault = str(fault)
    if not done.failed:
        return []
    found = list(complain_of_command(name, command, done))
    if command.runner == "http":
        found += complain_of_answers(done)
    if thorough:
        found += complain_of_index(states, command, done)
    return [f"{each} ({done.failed_path}: {done.err.strip()[-300:]})" for each in found]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_with_failing_call_loses_nothing_and_completes_later(name, states):
    found = {
        str(fault): complaints_of(
            states, name, fault, thorough=COMMANDS[name].writes or number % 5 == 0
        )
        for number, fault in enumerate(drawn_faults(states, name))
    }
    assert {fault: said for fault, said in found.items() if said} == {}
    assert len(found) > 5


def test_injector_counts_calls_of_each_kind_below_prefixes(states):
    states.take("changed")
    done = states.ask("command", ("index", "{photos}"))
    assert done.failed == 0
    assert all(done.calls[kind] for kind in KINDS), done.calls
    # The seal is written twice, a segment and a vector index once, each with its folder.
    assert done.calls["rename"] == 4
    assert done.calls["fsync"] > 8
    states.take("changed")
    nowhere = states.ask("command", ("index", "{photos}"), prefixes=[states.place.folder / "no"])
    assert set(nowhere.calls.values()) == {0}


@pytest.mark.parametrize("sticky", [False, True])
def test_injector_fails_nth_call_once_or_from_then_on(sticky, states):
    states.take("indexed")
    done = states.ask("command", ("compact",), fault=Fault("rename", 3, errno.EIO, sticky))
    assert done.code == 1
    assert done.calls["rename"] >= 3
    assert done.failed == (done.calls["rename"] - 2 if sticky else 1)
    assert "The disk fails to read or write" in done.err


def test_injection_check_detects_writer_ignoring_fsync_error(states):
    sync = next(
        fault
        for number in range(1, 20)
        for fault in [Fault("fsync", number, errno.EIO)]
        if PUBLISHED.search(failed_path(states, fault))
    )
    assert complaints_of(states, "index", sync) == []
    (said,) = complaints_of(states, "index", sync, "swallows-fsync")
    assert "passes over" in said


def failed_path(states, fault):
    states.take("changed")
    return states.ask("command", ("index", "{photos}"), fault=fault).failed_path


def test_injection_check_detects_writer_ignoring_short_writes(states):
    short = Fault("write", 1, SHORT_CALL, sticky=True)
    assert complaints_of(states, "index", short) == []
    assert complaints_of(states, "index", short, "ignores-short-writes") != []


def test_injection_check_detects_command_hiding_errors(states):
    full = Fault("write", 1, errno.ENOSPC, sticky=True)
    assert complaints_of(states, "index", full) == []
    said = complaints_of(states, "index", full, "swallows-everything")
    assert any("all went well" in each for each in said)


REAL = [
    Fault("write", 40, errno.ENOSPC, sticky=True),
    Fault("fsync", 1, errno.EIO, sticky=True),
    Fault("open", 12, errno.EMFILE, sticky=True),
    Fault("mmap", 1, errno.ENOMEM, sticky=True),
    Fault("read", 30, errno.EIO, sticky=True),
]


@pytest.mark.parametrize("fault", REAL, ids=str)
def test_installed_command_with_failing_call_exits_1_and_recovers(
    fault, commands, few_photos, installed_mmsearch, tmp_path
):
    """Use the real encoder, its compiled model and its decoding processes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    chosen = sorted(few_photos.glob("*.jpg"))[2:5]
    for path in chosen:
        shutil.copy2(path, folder)
    home = tmp_path / "home"
    injected = {
        "LD_PRELOAD": str(commands.library),
        "INJECTOR_STATE": str(tmp_path / "state"),
        "INJECTOR_PREFIXES": str(home),
        "INJECTOR_KIND": fault.kind,
        "INJECTOR_NTH": str(fault.nth),
        "INJECTOR_ERRNO": str(fault.errno),
        "INJECTOR_STICKY": str(int(fault.sticky)),
    }
    arguments = ("index", folder, "--home", home, "--model", "starter", "--workers", "1")
    done = installed_mmsearch(*arguments, code=None, env=injected)
    assert done.returncode == 1, done.err
    (said,) = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(SENTENCE_ENDS.findall(said)) >= 2, said
    assert "unexpected went wrong" not in said
    installed_mmsearch(*arguments)
    assert len(installed_mmsearch("query", "a photograph", "--home", home).out.splitlines()) == len(
        chosen
    )
    installed_mmsearch("check", "--home", home)
