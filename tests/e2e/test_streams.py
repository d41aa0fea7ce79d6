"""The installed command with streams that are closed, full, unread or poorly encoded."""

import fcntl
import json
import os
import re
import shutil
import struct
import subprocess
import termios

import httpx
import pytest

from tests.e2e.test_http import serving
from tests.e2e.test_serving import run_socket_server
from tests.terminal import COMMAND, run_in_terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.name == "nt", reason="shells and descriptors of Unix"),
]

LOST = (
    b"Error: Standard output cannot be written: No space left on device. "
    b"Redirect the output elsewhere and run the command again.\n"
)


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    few = tmp_path_factory.mktemp("streams") / "few"
    few.mkdir()
    *plain, accented, undecodable = sorted((photos / "photos").iterdir())[:8]
    for picture in plain:
        shutil.copy(picture, few)
    shutil.copy(accented, few / "caf\u00e9 \u96ea.jpg")
    shutil.copy(undecodable, os.fsencode(few) + b"/broken \xff.jpg")
    return few


@pytest.fixture(scope="module")
def home(mmsearch, folder):
    mmsearch("index", folder, "--home", folder.parent / "home", "--model", "starter")
    return folder.parent / "home"


@pytest.fixture
def shell(environment, forked_command, home, tmp_path):
    """Run a line of bash with $mmsearch; return its first exit code, stdout and stderr."""

    def run(line, **more):
        done = subprocess.run(
            ["bash", "-c", f"{line}\nexit ${{PIPESTATUS[0]}}"],
            env=environment
            | {"MMSEARCH_HOME": str(home), "mmsearch": str(forked_command), "here": str(tmp_path)}
            | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert b"Exception ignored" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("kind", ["png", "html"])
@pytest.mark.parametrize("verb", ["query dog", "query dog --json", "similar"])
@pytest.mark.parametrize("state", ["| head -c 0", ">&- 2>&-", ">/dev/full"])
def test_sheet_is_written_if_stdout_is_closed_full_or_unread(
    shell, folder, tmp_path, verb, kind, state
):
    if verb == "similar" and kind == "html":
        pytest.skip("as with query")
    what = f"{verb} '{min(folder.iterdir())}'" if verb == "similar" else verb
    code, _, said = shell(f'"$mmsearch" {what} --sheet "$here/s.{kind}" {state}')
    assert (tmp_path / f"s.{kind}").stat().st_size > 5000
    assert code == (1 if "full" in state else 0)
    if "full" in state:
        assert said.endswith(LOST)


COMMANDS = {
    "query": "query dog",
    "paths": "query dog --paths",
    "batch": "query --batch <(yes dog | head -n 20)",
    "status": "status --json",
    "list": "list",
    "roots": "roots --json",
    "models": "models info starter",
    "index": "index \"$few\" --json",
    "help": "--help",
    "version": "--version",
    "compact": "compact --index copy",
}  # fmt: skip
INSTALLED = ("query", "batch", "index")
"""Those that run the installed command, whose streams Python opens; the others run in a fork."""


@pytest.mark.parametrize("name", COMMANDS)
def test_command_exits_1_if_stdout_is_full_and_0_if_closed_or_unread(shell, folder, name, home):
    if name == "compact" and not (home / "copy").exists():
        shutil.copytree(home / "default", home / "copy")
    command = f'"$mmsearch" {COMMANDS[name]}'
    few = {"few": str(folder)}
    if name in INSTALLED:
        few["mmsearch"] = str(COMMAND)
    assert shell(f"{command} <&- >&- 2>&-", **few) == (0, b"", b"")
    code, out, said = shell(f"{command} >/dev/full", **few)
    assert (code, out, said.endswith(LOST), said.count(b"Error:")) == (1, b"", True, 1)
    code, out, said = shell(f"{command} | head -c 0", **few)
    assert (code, out, b"Error" in said) == (0, b"", False)


def test_index_with_full_stderr_indexes_all_pictures_and_exits_1(shell, folder, tmp_path):
    fresh = {"few": str(folder), "MMSEARCH_HOME": str(tmp_path)}
    broken = folder / "no picture.jpg"
    broken.write_bytes(b"no picture")
    try:
        code, out, _ = shell('"$mmsearch" index "$few" --model starter --json 2>/dev/full', **fresh)
    finally:
        broken.unlink()
    assert (code, json.loads(out)["pictures"]) == (1, 8)


def test_query_table_at_zero_size_terminal_is_printed_with_paths(environment, home):
    """Run the query without and with a server, also with invalid sizes in the environment."""

    def no_size(terminal):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 0, 0, 0, 0))

    def shown(**more):
        plain = {k: v for k, v in environment.items() if k not in ("COLUMNS", "LINES")}
        return run_in_terminal(
            ["query", "dog", "-k", "2", "--home", home],
            plain | {"TERM": "xterm", "NO_COLOR": "1"} | more,
            prepare=no_size,
        )

    sizes = ({}, {"COLUMNS": "0", "LINES": "0"}, {"COLUMNS": ""}, {"COLUMNS": "\u00b2"})
    alone = [shown(**each) for each in sizes]
    assert alone[0][0] == 0
    assert b"2 of 8 pictures: dog" in alone[0][1]
    assert b"/few/" in alone[0][1].replace(b"\r\n", b"")
    assert alone == [alone[0]] * len(sizes)
    with run_socket_server(environment, home):
        assert [shown(**each) for each in sizes] == alone


def test_query_through_server_exits_1_if_stdout_is_full_and_0_if_closed(environment, shell, home):
    with run_socket_server(environment, home):
        assert shell('"$mmsearch" query dog <&- >&- 2>&-') == (0, b"", b"")
        code, out, said = shell('"$mmsearch" query dog -k 1 2>&-')
        assert (code, out.count(b"\n"), said) == (0, 1, b"")
        code, _, said = shell('"$mmsearch" query dog >/dev/full')
        assert (code, said.endswith(LOST)) == (1, True)


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C"},
    ],
    ids=str,
)
def test_file_names_are_printed_in_any_stdout_encoding(shell, folder, variables):
    # Python reads these variables when it starts.
    few = {"few": str(folder), "mmsearch": str(COMMAND)} | variables
    printed = {
        command: shell(f'"$mmsearch" {command}', **few)
        for command in ("query dog -k 9", "query dog -k 9 --paths", "status --failures", "check")
    }
    assert {code for code, *_ in printed.values()} == {0}
    lines = printed["query dog -k 9"][1]
    assert rb"broken \xff.jpg" in lines
    names = (b"caf\xe9 ", b"caf\\xe9 ", b"caf\\xc3\\xa9 ", "caf\u00e9 ".encode())
    assert sum(name in lines for name in names) == 1
    paths = printed["query dog -k 9 --paths"][1].splitlines()
    assert all(os.path.isfile(path) for path in paths)
    assert len(paths) == 8


def test_mcp_stdio_exits_1_if_stdout_is_full_and_0_if_closed_or_unread(shell):
    line = (
        """{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","""
        """"capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"""
    )
    asked = f"echo '{line}'; sleep 1; echo '{line}'"
    for state, code, said in (("| head -c 0", 0, b""), (">/dev/full", 1, LOST), (">&-", 0, b"")):
        assert shell(f'"$mmsearch" mcp < <({asked}) {state}') == (code, b"", said)


@pytest.mark.enable_socket
def test_server_malformed_uploads_get_4xx_and_log_nothing(environment, home):
    """Rely on `serving`, which fails if the server prints any further line."""
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    bodies = [
        b"--y\r\n",
        b"--x\r\nno header\r\n\r\n",
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n\xff\r\n--x--',
        b"--x--\r\n" + b"junk" * 100,
        b"",
        b"\r\n" * 100,
    ]  # fmt: skip
    with serving(environment, home) as server:
        at = f"{server.url}/v1/indexes/default/search"
        statuses = [httpx.post(at, headers=kind, content=body).status_code for body in bodies]
        assert all(400 <= status < 500 for status in statuses), statuses


def test_watch_without_stdout_reader_indexes_and_exits_0(environment, folder, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(folder, few)
    line = f'exec "$0" watch "{few}" --home "{tmp_path}/home" --model starter --settle 0.1'
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["bash", "-c", line, COMMAND],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, re.sub(rb"  .*\n", b"", done.stderr)) == (0, b"")
    listed = subprocess.run(
        [COMMAND, "list", "--home", tmp_path / "home", "--json"],
        env=environment, capture_output=True, check=True,
    )  # fmt: skip
    assert b'"pictures": 8' in listed.stdout
