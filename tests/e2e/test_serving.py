"""``mmsearch serve``: queries print the same through the server as without it."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.e2e.test_http import serving
from tests.serve_process import run_serve
from tests.terminal import COMMAND, run_in_terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.name == "nt", reason="no Unix domain sockets"),
]


SOUNDS = Path(__file__).parents[1] / "sounds"


@contextmanager
def run_socket_server(environment, home, *options, ends=signal.SIGTERM, code=0):
    command = [COMMAND, "serve", "--no-http", "--home", home, *options]
    with run_serve(command, environment, ends, code) as resident:
        assert resident.line() == "Index 'default' is open for queries; Ctrl-C stops it.\n"
        yield resident.process


@pytest.fixture(scope="module")
def resident(environment, photo_index):
    with run_socket_server(environment, photo_index) as process:
        yield process


@pytest.fixture
def run_both_ways(environment, forked_command):
    """Function: exit code, stdout and stderr of a command through the server and without it."""
    alone = environment | {"XDG_RUNTIME_DIR": environment["XDG_RUNTIME_DIR"] + "-none"}

    def run_in_pipes(environment, arguments, cwd):
        command = [forked_command, *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, cwd=cwd, check=False)
        return done.returncode, done.stdout, done.stderr

    def run(*arguments, cwd=None, terminal=False):
        run_once = run_at_terminal if terminal else run_in_pipes
        return run_once(environment, arguments, cwd), run_once(alone, arguments, cwd)

    return run


def run_at_terminal(environment, arguments, cwd):
    def fold(terminal):
        # A width at which the table folds, and which no other process has by chance.
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 17, 61, 0, 0))

    variables = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    return *run_in_terminal(arguments, variables | {"TERM": "xterm-256color"}, cwd, fold), b""


def mask_times(answer):
    return re.sub(rb'"(encode|open|search|hits)": [0-9.e-]+', b"", answer)


CASES = {
    "lines": ["query", "a windmill", "-k", 5],
    "json": ["query", "a windmill", "--json"],
    "paths": ["query", "a dog", "--paths"],
    "nul": ["query", "a dog", "-0"],
    "remark": ["query", "the square root of minus one", "-k", 3],
    "filter": ["query", "dog", "--min-width", 100_000],
    "no words": ["query", "--mode", "text", "zebrafish"],
    "too long": ["query", "word " * 300, "-k", 2],
    "nonsense": ["query", "dog", "-k", 0],
    "no number": ["query", "dog", "-k", "many"],
    "no index": ["query", "dog", "--index", "nothere"],
    "no mode": ["query", "dog", "--mode", "odd"],
    "no picture": ["similar", "/no/such/picture.jpg"],
    "help": ["query", "--help"],
}


@pytest.mark.parametrize("case", CASES)
def test_query_in_pipe_prints_same_with_and_without_server(
    run_both_ways, resident, photo_index, case
):
    verb, *rest = CASES[case]
    through, alone = run_both_ways(verb, *rest, "--home", photo_index)
    assert through[0] == alone[0]
    assert mask_times(through[1]) == mask_times(alone[1])
    assert through[2] == alone[2]


@pytest.mark.skipif(find_spec("faster_whisper") is None, reason="no extra speech")
def test_spoken_query_prints_same_with_and_without_server(run_both_ways, resident, photo_index):
    for options in ((), ("--json", "--not", "snow", "-k", 2)):
        command = ("query", "--speech", "panda.ogg", *options, "--home", photo_index)
        through, alone = run_both_ways(*command, cwd=SOUNDS)
        assert through[0] == alone[0] == 0
        assert mask_times(through[1]) == mask_times(alone[1])
        assert through[2] == alone[2]
        assert through[2].startswith(b'Heard: "A black and white panda"\n')
    through, alone = run_both_ways("query", "--speech", "README.md", cwd=SOUNDS)
    assert through == alone
    assert b"not a recording in a known format" in through[2]


@pytest.mark.skipif(find_spec("faster_whisper") is None, reason="no extra speech")
@pytest.mark.skipif(sys.platform != "linux", reason="no list of the libraries of a process")
def test_server_loads_the_model_for_a_recording_on_stdin(
    environment, resident, photo_index, forked_command
):
    done = subprocess.run(
        [forked_command, "query", "--speech", "-", "-k", "1", "--home", photo_index],
        input=(SOUNDS / "panda.ogg").read_bytes(),
        env=environment,
        capture_output=True,
        check=True,
    )
    assert b'Heard: "A black and white panda"' in done.stderr
    assert b"ctranslate2" in Path(f"/proc/{resident.pid}/maps").read_bytes()


def test_similar_relative_path_prints_same_with_and_without_server(
    run_both_ways, resident, photo_index, photos
):
    picture = sorted((photos / "photos").iterdir())[7]
    through, alone = run_both_ways(
        "similar", picture.name, "--home", photo_index, cwd=picture.parent
    )
    assert through == alone
    assert through[1].split(b"\t")[2] == os.fsencode(picture.name)


@pytest.mark.parametrize("case", ["lines", "remark", "json", "nonsense"])
def test_query_at_terminal_prints_same_with_and_without_server(
    run_both_ways, resident, photo_index, photos, case
):
    verb, *rest = CASES[case]
    through, alone = run_both_ways(
        verb, *rest, "--home", photo_index, cwd=photos.parent, terminal=True
    )
    assert [mask_times(part) for part in through[1:]] == [mask_times(part) for part in alone[1:]]
    assert through[0] == alone[0]
    if case == "lines":
        assert b"\x1b[" in through[1] or b"\xe2\x94" in through[1]


def test_query_with_running_server_is_answered_by_it(environment, resident, photo_index):
    """Make sure that the tests above do not compare a command with itself."""
    resident.send_signal(signal.SIGSTOP)
    try:
        command = [COMMAND, "query", "a dog", "--verbose", "--home", photo_index]
        waited = subprocess.run(command, env=environment, capture_output=True, check=True)
    finally:
        resident.send_signal(signal.SIGCONT)
    opening_ms = []
    # On a busy machine a command may give up before the server wakes up.
    while 0 not in opening_ms and len(opening_ms) < 20:
        served_ = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert waited.stdout == served_.stdout
        opening_ms.append(int(re.search(rb"open ([0-9]+) ms", served_.stderr)[1]))
    # A process that has the index open does not open it again.
    assert 0 in opening_ms


def test_query_through_server_with_early_closed_pipe_exits_0(environment, resident, photo_index):
    query = f"{COMMAND} query 'a dog' -k 212 --json --home {photo_index}"
    line = f"{query} | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, check=False)
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 10, b"")


def test_socket_server_sees_indexing_and_removal_by_other_commands(
    mmsearch, environment, photos, tmp_path
):
    folder, home = tmp_path / "few", tmp_path / "home"
    folder.mkdir()
    pictures = sorted((photos / "photos").iterdir())[:6]
    for path in pictures[:5]:
        (folder / path.name).write_bytes(path.read_bytes())
    mmsearch("index", folder, "--home", home, "--model", "starter")
    with run_socket_server(environment, home, ends=signal.SIGINT, code=130):
        assert len(mmsearch("query", "dog", "--paths", "--home", home).out.splitlines()) == 5
        (folder / pictures[5].name).write_bytes(pictures[5].read_bytes())
        mmsearch("index", folder, "--home", home)
        found = json.loads(mmsearch("query", "dog", "--json", "--home", home).out)
        assert (found["pictures"], len(found["hits"])) == (6, 6)
        mmsearch("remove", "default", "--yes", "--home", home)
        done = mmsearch("query", "dog", "--home", home, code=2)
        assert done.err.startswith("Error: There is no index named 'default'")


def test_serve_second_server_or_missing_index_exits_with_error(
    mmsearch, resident, photo_index, tmp_path
):
    done = mmsearch("serve", "--no-http", "--home", photo_index, code=1)
    assert done.err == (
        "Error: Another process already serves index 'default'. Queries use it automatically.\n"
    )
    done = mmsearch("serve", "--port", "0", "--home", tmp_path, code=2)
    assert done.err.startswith("Error: There is no index named 'default'")


@pytest.mark.parametrize(("ends", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serve_second_server_answers_over_http_only(
    environment, resident, photo_index, socket_enabled, ends, code
):
    with (
        serving(environment, photo_index, ends=ends, code=code, beside_another=True) as server,
        urlopen(f"{server.url}/v1/indexes/default/search?q=dog&limit=3") as answer,  # noqa: S310
    ):
        assert len(json.load(answer)["hits"]) == 3


def test_serve_without_requests_stops_after_idle_timeout(mmsearch, photo_index, tmp_path):
    tmp_path.chmod(0o700)
    elsewhere = {"XDG_RUNTIME_DIR": str(tmp_path)}
    done = mmsearch("serve", "--no-http", "--home", photo_index, "--idle", "0.01", env=elsewhere)
    assert done.err.endswith("Idle timeout reached; stopped.\n")


def test_query_through_server_imports_no_heavy_modules(environment, resident, photo_index):
    program = (
        "import sys\nfrom mmsearch.cli.main import run\n"
        f"assert run(['query', 'a dog', '--paths', '--home', {str(photo_index)!r}]) == 0\n"
        "heavy = {'numpy', 'typer', 'rich', 'sqlalchemy', 'sqlite3', 'faiss', 'onnxruntime',\n"
        "         'tokenizers', 'filelock', 'tomllib', 'subprocess', 'mmsearch.api'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True
    )
    assert done.stderr == b"[]\n"
    assert len(done.stdout.splitlines()) == 10
