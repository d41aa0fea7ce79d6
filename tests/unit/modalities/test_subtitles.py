"""Files of subtitles beside films: their lines, their languages, and whose they are."""

import random

import pytest

from mmsearch.core.errors import DecodeError
from mmsearch.core.types import Text
from mmsearch.modalities._texts.pairing import pair_sidecars
from mmsearch.modalities._texts.sidecars import read_sidecar
from mmsearch.modalities._texts.subtitles import share_lines, split_name, to_language

pytest.importorskip("pysubs2")

SRT = """1
00:00:01,000 --> 00:00:03,500
A <i>fire</i> exit
in the wall

2
01:02:03,004 --> 01:02:05,000
{\\an8}The harbour
"""
VTT = """WEBVTT

NOTE nothing to see

00:01.000 --> 00:03.500 align:start
<v Anna>A <b>fire</b> exit
in the wall

01:02:03.004 --> 01:02:05.000
The harbour
"""
ASS = """[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not shown
Dialogue: 0,1:02:03.00,1:02:05.00,Default,,0,0,0,,The harbour
Dialogue: 0,0:00:01.00,0:00:03.50,Default,,0,0,0,,A {\\i1}fire{\\i0} exit\\Nin the wall
"""


@pytest.fixture
def read(tmp_path):
    def run(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_sidecar(bytes(path)).metadata.texts

    return run


@pytest.mark.parametrize(
    ("name", "content"), [("film.srt", SRT), ("film.vtt", VTT), ("film.ass", ASS)]
)
def test_lines_have_their_words_and_times(read, name, content):
    lines = read(name, content)
    assert [(line.text, line.kind, line.source) for line in lines] == [
        ("A fire exit in the wall", "subtitle", "sidecar"),
        ("The harbour", "subtitle", "sidecar"),
    ]
    assert (lines[0].start_ms, lines[0].end_ms) == (1000, 3500)
    assert 3_723_000 <= lines[1].start_ms <= 3_723_004


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_encoding_of_lines_is_found(read, encoding):
    lines = read("film.de.srt", SRT.replace("The harbour", "Der Hafen für Möwen").encode(encoding))
    assert lines[1].text == "Der Hafen für Möwen"
    assert lines[1].language == "de"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("film", ("film", None)),
        ("film.en", ("film", "en")),
        ("film.eng", ("film", "en")),
        ("film.pt-BR", ("film", "pt-BR")),
        ("film.de.forced", ("film", "de")),
        ("film.sdh", ("film", None)),
        ("film.part", ("film.part", None)),
        ("my.film.fr", ("my.film", "fr")),
        (".en", (".en", None)),
    ],
)
def test_name_says_the_language(name, expected):
    assert split_name(name) == expected


@pytest.mark.parametrize(
    ("code", "tag"), [("ger", "de"), ("eng", "en"), ("und", None), (None, None), ("pt_BR", "pt-BR")]
)
def test_code_of_a_container_becomes_a_tag(code, tag):
    assert to_language(code) == tag


def test_subtitles_belong_to_films_alone():
    pictures = [b"film.jpg", b"film.mp4", b"film.en.mkv", b"other.jpg"]
    subtitles = [b"film.srt", b"FILM.de.vtt", b"film.en.srt", b"other.srt", b"film.mp4.it.srt"]
    assert pair_sidecars(pictures, [*subtitles, b"film.txt"]) == {
        b"film.mp4": (b"film.srt", b"film.mp4.it.srt", b"FILM.de.vtt"),
        b"film.en.mkv": (b"film.en.srt",),
        b"film.jpg": (b"film.txt",),
    }


def test_state_of_the_camera_of_a_drone_is_no_subtitle(read):
    telemetry = SRT.replace("A <i>fire</i> exit", "FrameCnt: 1, DiffTime: 33ms [iso : 100]")
    assert read("DJI_0001.srt", telemetry) == ()


@pytest.mark.parametrize("suffix", ["srt", "vtt", "ass", "ssa"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 500, b"once upon a time\n" * 50, bytes(range(256))]
)
def test_file_that_is_no_subtitles_has_no_lines(read, suffix, content):
    assert read(f"film.{suffix}", content) == ()


@pytest.mark.parametrize("seed", range(40))
def test_damaged_subtitles_have_lines_or_a_reason(read, seed):
    rng = random.Random(seed)
    suffix, content = rng.choice([("srt", SRT), ("vtt", VTT), ("ass", ASS)])
    damaged = bytearray(content.encode())
    for _ in range(20):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    reason = None
    try:
        lines = read(f"film.{suffix}", bytes(damaged))
    except DecodeError as error:
        lines, reason = (), error.message
    assert reason in (None, "it is not a file of subtitles")
    assert all(line.text.isprintable() and line.start_ms <= line.end_ms for line in lines)


def test_impossible_times_are_left_out(read):
    content = SRT.replace("00:00:03,500", "00:00:00,500")
    assert [line.text for line in read("film.srt", content)] == ["The harbour"]


def test_lines_go_to_the_span_that_holds_them_or_to_the_nearest():
    lines = [Text("subtitle", str(start), start_ms=start) for start in (0, 50, 99, 130, 180, 900)]
    shares = share_lines(lines, [(50, 100), (200, 300)])
    assert [[line.text for line in share] for share in shares] == [
        ["0", "50", "99", "130"],
        ["180", "900"],
    ]
