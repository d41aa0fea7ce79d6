"""Tests of standard streams that are closed, full, unread or of a limited encoding."""

import io
import os
import subprocess
import sys
import threading

import pytest

from mmsearch.cli import output, streams
from mmsearch.cli.streams import SafeTextStream, has_failed

pytestmark = pytest.mark.skipif(os.name == "nt", reason="descriptors of Unix")


def stream_like(encoding, errors="strict"):
    return io.TextIOWrapper(io.BytesIO(), encoding, errors)


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_safe_text_stream_writes_text_and_bytes_once_in_order(pipe):
    reader, writer = pipe
    stream = SafeTextStream(writer, stream_like("utf-8"))
    stream.write("one\n")
    stream.flush()
    stream.buffer.write(b"\xff\0")
    stream.flush()
    assert os.read(reader, 100) == b"one\n\xff\0"
    assert stream.error is None


@pytest.mark.parametrize(
    ("encoding", "errors", "expected"),
    [
        ("ascii", "strict", b"caf\\xe9 \\udce9 \\u2026"),
        ("ascii", "surrogateescape", b"caf\\xe9 \\udce9 \\u2026"),
        ("latin-1", "strict", b"caf\xe9 \\udce9 \\u2026"),
        ("utf-8", "strict", b"caf\xc3\xa9 \\udce9 \xe2\x80\xa6"),
        ("ascii", "replace", b"caf? ? ?"),
        ("ascii", "ignore", b"caf  "),
    ],
)
def test_safe_text_stream_unencodable_characters_are_escaped_or_replaced(
    pipe, encoding, errors, expected
):
    reader, writer = pipe
    stream = SafeTextStream(writer, stream_like(encoding, errors))
    stream.write("caf\u00e9 \udce9 \u2026")
    stream.flush()
    assert os.read(reader, 100) == expected


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_safe_text_stream_full_disk_keeps_error_and_never_raises():
    descriptor = os.open("/dev/full", os.O_WRONLY)
    stream = SafeTextStream(descriptor, stream_like("utf-8"))
    assert not has_failed(stream)
    for _ in range(3):
        stream.write("a line\n" * 10_000)
        stream.flush()
    os.close(descriptor)
    assert has_failed(stream)
    assert stream.error.strerror == "No space left on device"


def test_flush_streams_closed_reader_keeps_exit_code_without_message(pipe, monkeypatch):
    reader, writer = pipe
    os.close(reader)
    stream, stderr = SafeTextStream(writer, stream_like("utf-8")), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stderr)
    stream.write("a line\n")
    assert [streams.flush_streams(code) for code in (0, 3, 1, 2, 130)] == [0, 3, 1, 2, 130]
    assert has_failed(stream)
    assert stderr.getvalue() == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(("code", "expected"), [(0, 1), (3, 1), (2, 2), (130, 130), (1, 1)])
def test_flush_streams_lost_output_is_reported_once(monkeypatch, code, expected):
    descriptor = os.open("/dev/full", os.O_WRONLY)
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stdout", SafeTextStream(descriptor, stream_like("utf-8")))
    monkeypatch.setattr(sys, "stderr", stderr)
    sys.stdout.write("a line\n")
    assert streams.flush_streams(code) == expected
    os.close(descriptor)
    assert stderr.getvalue() == (
        "Error: Standard output cannot be written: No space left on device. "
        "Redirect the output elsewhere and run the command again.\n"
    )


def test_safe_text_stream_non_blocking_pipe_receives_all_output(pipe):
    reader, writer = pipe
    os.set_blocking(writer, False)
    content = "0123456789\n" * 100_000
    received = []

    def read():
        while sum(map(len, received)) < len(content):
            received.append(os.read(reader, 65536))

    reading = threading.Thread(target=read)
    reading.start()
    stream = SafeTextStream(writer, stream_like("utf-8"))
    stream.write(content)
    stream.flush()
    reading.join(60)
    assert b"".join(received).decode() == content
    assert stream.error is None


PROGRAM = """
import os, sys
from mmsearch.cli import streams
streams.install_streams()
null = os.stat(os.devnull).st_rdev
report = [sys.stdin.read(), sys.stdout.write("x"), sys.stderr.write("y"), sys.stdout.isatty()]
report += [os.fstat(number).st_rdev == null for number in range(3)]
report.append(os.open(os.devnull, os.O_RDONLY) > 2)
print(report, file=open(sys.argv[1], "w"))
sys.exit(streams.flush_streams(0))
"""


@pytest.mark.parametrize(
    ("closed", "null"),
    [
        ("<&- >&- 2>&-", [True, True, True]),
        (">&-", [True, True, False]),
        ("2>&-", [True, False, True]),
        (">&- 2>&-", [True, True, True]),
        ("<&-", [True, False, False]),
    ],
)
def test_install_streams_closed_descriptors_become_null_device(tmp_path, closed, null):
    """Check that the next opened file cannot become standard output."""
    line = f'exec "$0" -c "$1" "$2" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, PROGRAM, tmp_path / "report"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    report = (tmp_path / "report").read_text()
    assert report == f"{['', 1, 1, False, *null, True]}\n"
    assert done.stdout == (b"" if ">&- " in f"{closed} ".replace("2>&- ", "") else b"x")
    assert done.stderr == (b"" if "2>&-" in closed else b"y")


@pytest.mark.parametrize("name", ["COLUMNS", "LINES", "TERMINAL_WIDTH"])
@pytest.mark.parametrize(
    ("value", "kept"),
    [("0", False), ("", False), ("wide", False), ("\u00b2", False), ("-5", False), ("1", True),
     ("132", True), ("99999999", False), ("0x50", False), (" 80", False)],
)  # fmt: skip
def test_install_streams_invalid_terminal_size_variable_is_removed(monkeypatch, name, value, kept):
    for stream in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, stream, getattr(sys, stream))
    monkeypatch.setenv(name, value)
    streams.install_streams()
    assert (name in os.environ) is kept


@pytest.mark.parametrize("columns", ["1", "5", "39"])
def test_print_table_narrow_terminal_keeps_values(monkeypatch, columns):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = Terminal()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    output.print_table("", ["rank>", "path"], [(1, "beach.jpg")])
    assert "beach.jpg" in shown.getvalue()


def test_quiet_libraries_hides_logs_and_warnings_unless_traceback_is_set(tmp_path):
    program = (
        "import logging, sys, warnings\n"
        "from mmsearch.cli import streams\n"
        "streams.quiet_libraries()\n"
        "for name in ('python_multipart.multipart', 'PIL.TiffImagePlugin', 'asyncio', 'x'):\n"
        "    logging.getLogger(name).warning('raw')\n"
        "    logging.getLogger(name).error('raw')\n"
        "warnings.warn('raw')\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
    for more, shown in (({}, 0), ({"MMSEARCH_TRACEBACK": "1"}, 9)):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment | more,
            capture_output=True,
            check=True,
        )
        assert done.stderr.count(b"raw") - done.stderr.count(b"warn('raw')") == shown


def test_quiet_libraries_shows_warnings_requested_by_user():
    program = (
        "import warnings\nfrom mmsearch.cli import streams\nstreams.quiet_libraries()\n"
        "warnings.warn('raw')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", program], capture_output=True, check=True
    )
    assert b"UserWarning: raw" in done.stderr


def test_import_mmsearch_keeps_logging_and_warning_settings():
    program = (
        "import logging, mmsearch, warnings\n"
        "from mmsearch import Index\n"
        "from mmsearch.cli import app, output, streams\n"
        "logging.getLogger('x').warning('raw')\n"
        "warnings.warn('raw', UserWarning)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stderr.splitlines()[0] == b"raw"
    assert b"UserWarning: raw" in done.stderr
