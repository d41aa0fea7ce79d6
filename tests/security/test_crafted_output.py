"""Texts of a crafted index reach terminals and pages only escaped."""

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from mmsearch.cli import output
from mmsearch.cli.contact_sheet import write_contact_sheet
from mmsearch.core.errors import UsageError
from mmsearch.core.query import Band, MatchedText, Mode
from mmsearch.core.results import Hit, SearchResult
from tests.crafted_indexes import change_catalog, make_index
from tests.terminal import run_in_terminal

# Clears the screen, writes the clipboard, adds a link and a C1 byte, turns the text direction.
EVIL = "a\x1b[2J\x1b]52;c;aGk=\x07\x1b]8;;http://x/\x1b\\b\x9b31m\u202egnp.exe\u2066\rz\x7f"
FORBIDDEN = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\r", "\x7f")
MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>javascript:alert(3)"


class Screen(io.TextIOWrapper):
    """Standard output and error that claim to be a terminal or a pipe."""

    def __init__(self, *, terminal):
        super().__init__(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
        self._terminal = terminal

    def isatty(self):
        return self._terminal

    def shows(self, act):
        """Return what a function prints."""
        with redirect_stdout(self), redirect_stderr(self):
            act()
        return self.content()

    def content(self):
        self.flush()
        return self.buffer.getvalue().decode("utf-8", "surrogateescape")


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def screen(request):
    return Screen(terminal=request.param)


def hit(path, **more):
    facts = {
        "rank": 1,
        "score": 0.5,
        "visual": 0.5,
        "text": 0.0,
        "confidence": 0.5,
        "band": Band.LIKELY,
        "id": 1,
        "path": Path(path),
        "copies": (),
        "width": 3,
        "height": 2,
        "format": "JPEG",
        "taken_at": None,
        "camera": None,
        "latitude": None,
        "longitude": None,
        "modified_at": 0.0,
        "size_bytes": 1,
        "texts": (),
        "matched": None,
    }
    return Hit(**(facts | more))


def result(*hits):
    return SearchResult(
        EVIL,
        Mode.VECTOR,
        hits=hits,
        match=Band.LIKELY,
        calibrated=True,
        generation=1,
        pictures=1,
        passed=1,
        encoder=EVIL,
        timings_s={},
        dropped_tokens=0,
        devices={},
    )


def is_harmless(shown):
    # On a terminal, rich marks words by its own escapes, which all end in m.
    kept = shown.replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert not [char for char in FORBIDDEN if char in kept], repr(kept)


def test_hit_table_escapes_control_characters(screen):
    matched = MatchedText("caption", None, EVIL, ((0, 1),))
    one = hit(f"/photos/{EVIL}", matched=matched, taken_at=EVIL, width=EVIL)
    shown = screen.shows(lambda: output.print_hits(result(one).to_dict()))
    is_harmless(shown)
    assert "\\x1b" in shown


@pytest.mark.parametrize(
    "act",
    [
        lambda: output.print_table(EVIL, ["name"], [(EVIL,)]),
        lambda: output.print_line(EVIL),
        lambda: output.warn(EVIL),
        lambda: output.warn_list(EVIL, [EVIL], EVIL),
        lambda: output.print_json({EVIL: EVIL}),
    ],
)
def test_tables_lines_and_json_escape_control_characters(screen, act):
    shown = screen.shows(act)
    is_harmless(shown)
    assert "52;c;aGk=" in shown


def test_paths_are_escaped_on_terminal_and_exact_in_pipe(screen):
    name = os.fsdecode(b"/photos/\x1b[2J\xff.jpg")
    shown = screen.shows(lambda: output.print_paths([name], b"\n"))
    if screen.isatty():
        assert shown == "/photos/\\x1b[2J\\xff.jpg\n"
    else:
        assert os.fsencode(shown) == b"/photos/\x1b[2J\xff.jpg\n"


def test_path_with_newline_is_escaped_on_terminal_and_refused_in_pipe(screen):
    paths = ["/photos/a", "/photos/b\n/etc/passwd"]
    if screen.isatty():
        shown = screen.shows(lambda: output.print_paths(paths, b"\n"))
        assert shown == "/photos/a\n/photos/b\\n/etc/passwd\n"
    else:
        with pytest.raises(UsageError, match="Use --print0"):
            screen.shows(lambda: output.print_paths(paths, b"\n"))
        assert screen.content() == ""


def test_nul_separated_paths_are_exact(screen):
    shown = screen.shows(lambda: output.print_paths(["/photos/\x1b[2J\n"], b"\0"))
    assert shown == "/photos/\x1b[2J\n\0"


class NoThumbnails:
    name = "default"

    def thumbnail(self, hit, edge_px):
        return None


class ThumbnailCache:
    name = "default"

    def thumbnail(self, hit, edge_px):
        return b"jpeg"


@pytest.mark.parametrize("index", [NoThumbnails(), ThumbnailCache()])
def test_contact_sheet_escapes_markup_of_catalog(tmp_path, index):
    one = hit(f"/photos/{MARKUP}", taken_at="<script>x", width=MARKUP, height=MARKUP)
    answer = result(one)
    write_contact_sheet(tmp_path / "sheet.html", index, answer)
    page = (tmp_path / "sheet.html").read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert 'href="javascript' not in page
    assert page.count("<img ") == (1 if isinstance(index, ThumbnailCache) else 0)
    is_harmless(page)


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal of POSIX")
@pytest.mark.parametrize("verb", ["status", "roots", "check", "query"])
def test_command_at_terminal_escapes_control_characters_of_catalog(tmp_path, environment, verb):
    layout = make_index(tmp_path / "indexes")
    change_catalog(
        layout,
        ("UPDATE sources SET name = ?, uri = ?", [EVIL, b"/photos/" + os.fsencode(EVIL)]),
        ("UPDATE settings SET value = replace(value, '\"toy\"', ?)", ['"\\u001b[2J\\u009b"']),
    )
    arguments = {"query": ["query", "a boat"], "check": ["check", "--sources"]}
    line = [*arguments.get(verb, [verb]), "--home", tmp_path / "indexes"]
    _, shown = run_in_terminal(line, environment)
    text = shown.decode().replace("\r\n", "\n")
    is_harmless(text)
    assert "\\x1b" in text
