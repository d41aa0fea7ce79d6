"""Hits of a search at a terminal and in a pipe: labels, the divider and narrow screens."""

import re
import sys

import pytest

from mmsearch.cli import output

CAPTION = "The old windmill of my grandfather on a hill in the far north of the country"
MATCHED = {"kind": "caption", "language": None, "text": CAPTION, "spans": [[8, 16]]}


def hit(rank, band="unlikely", confidence=0.02, name="a.jpg", matched=None):
    return {
        "rank": rank,
        "score": 0.4,
        "path": f"/photos/{name}",
        "width": 640,
        "height": 480,
        "taken_at": "2019-05-17T10:00:00",
        "modified_at": 0.0,
        "confidence": confidence,
        "band": band,
        "matched": matched,
        "start_ms": None,
        "page": None,
        "folded": 0,
    }


def answer(*hits, **more):
    return {
        "query": "a windmill",
        "hits": list(hits),
        "match": "likely",
        "calibrated": True,
        "pictures": 212,
        "passed": 212,
        "encoder": "starter",
        "dropped_tokens": 0,
        "devices": {},
        "undated": 0,
        "notices": [],
    } | more


LIKELY = hit(1, "likely", 0.834)
POSSIBLE = hit(2, "possible", 0.4)


@pytest.fixture
def table(capsys, monkeypatch):
    """Function that returns the lines of a result on a terminal of a given width."""

    def show(result, width=100, **options):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(width))
        output.print_hits(result, **options)
        return re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()

    return show


def cells(line):
    return [cell.strip() for cell in line.strip("│┃").replace("┃", "│").split("│")]


def test_piped_hits_have_seven_fields_and_percentages_only_beside_labels(capsys):
    output.print_hits(answer(LIKELY, POSSIBLE, hit(3), hit(4, matched=MATCHED)))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [len(row) for row in rows] == [7, 7, 7, 7]
    assert [row[5] for row in rows] == ["likely 83%", "possible 40%", "", ""]
    assert [row[1] for row in rows] == ["0.4000"] * 4
    assert [row[6] for row in rows] == ["", "", "", f"{CAPTION[:60]}…"]


def test_numbers_of_folded_pictures_stand_beside_hits(capsys, table):
    result = answer(LIKELY | {"folded": 3}, POSSIBLE | {"start_ms": 42_000}, hit(3))
    output.print_hits(result)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[7:] for row in rows] == [["", "+3"], ["0:42", ""], ["", ""]]
    lines = table(answer(LIKELY | {"folded": 1234, "start_ms": 42_000}, hit(2)))
    paths = [cells(line)[1] for line in lines if line.startswith("│")]
    assert paths[0] == "/photos/a.jpg 0:42 +1,234"


def test_terminal_divides_weaker_matches_and_shows_no_scores(table):
    lines = table(answer(LIKELY, POSSIBLE, hit(3), hit(4)))
    assert cells(lines[2]) == ["rank", "path", "size", "date", "confidence"]
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert [row[-1] for row in rows] == ["likely 83%", "possible 40%", "", "", ""]
    assert [row[0] for row in rows] == ["1", "2", "", "3", "4"]
    assert rows[2][1] == "Weaker matches"
    assert "0.4000" in " ".join(table(answer(LIKELY), verbose=True))


@pytest.mark.parametrize(
    "hits",
    [
        (LIKELY, POSSIBLE),
        (hit(1), hit(2)),
        # Another order than by rank: the labels alone say which are weak.
        (POSSIBLE, LIKELY, hit(3)),
    ],
)
def test_terminal_has_no_divider_where_nothing_is_divided(table, hits):
    assert "Weaker" not in " ".join(table(answer(*hits)))


def test_divider_follows_last_hit_with_label(table):
    lines = table(answer(LIKELY, hit(2), hit(3, "possible", 0.3), hit(4)))
    assert [cells(line)[0] for line in lines if line.startswith("│")] == ["1", "2", "3", "", "4"]


def test_model_without_calibration_gets_no_labels_and_one_hint(table, capsys):
    result = answer(LIKELY, POSSIBLE, hit(3), calibrated=False, encoder="open_clip:a/b")
    result["devices"] = {"text": "cpu", "vector_index": "gpu"}
    lines = table(result)
    assert cells(lines[2]) == ["rank", "path", "size", "date"]
    assert "%" not in " ".join(lines)
    output.print_search(result, "holiday")
    assert capsys.readouterr().err == (
        "Results of 'open_clip:a/b' are not labeled likely or possible yet; run: "
        "mmsearch calibrate --index holiday\n"
    )
    output.print_search(result, "holiday", paths=True)
    output.print_search(result, "holiday", as_json=True)
    # Queries by pictures have their own calibration, which that command may not give them.
    output.print_search(result | {"devices": {"vector_index": "gpu"}}, "holiday")
    output.print_search(result | {"devices": {"text": "cpu", "image": "cpu"}}, "holiday")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (60, ["rank", "path", "confidence"]),
        (80, ["rank", "path", "confidence", "text"]),
        (90, ["rank", "path", "date", "confidence", "text"]),
        (140, ["rank", "path", "size", "date", "confidence", "text"]),
    ],
)
@pytest.mark.parametrize("name", ["photos/6af4c1e7f4.jpg", "שלום עולם_1234.jpg", "写真" * 4])
def test_narrow_terminal_leaves_out_columns_and_keeps_one_line_a_hit(table, width, columns, name):
    lines = table(answer(hit(1, "likely", 0.9, name, MATCHED), hit(2, name=name)), width)
    assert cells(lines[2]) == columns
    rows = [cells(line) for line in lines if line.startswith("│")]
    assert [row[0] for row in rows] == ["1", "", "2"]
    assert rows[0][1] == f"/photos/{name}"
    assert "text" not in columns or "windmill" in rows[0][-1]


def test_long_path_is_folded_and_not_cut(table):
    name = "/".join(["a rather long folder"] * 5) + "/a.jpg"
    for width in (60, 80, 100):
        lines = table(answer(hit(1, "likely", 0.9, name, MATCHED)), width)
        assert "".join(cells(line)[1] for line in lines if line.startswith("│")).replace(
            " ", ""
        ) == f"/photos/{name}".replace(" ", "")
        assert max(map(len, lines)) <= width


def test_confidence_is_rounded_to_100_percent_only_if_certain(capsys):
    output.print_hits(answer(hit(1, "likely", 1.0), hit(2, "likely", 0.9996)))
    assert [line.split("\t")[5] for line in capsys.readouterr().out.splitlines()] == [
        "likely 100%",
        "likely 99%",
    ]


@pytest.mark.parametrize(
    ("notices", "lines"),
    [
        ([], ["No good matches. Closest results:"]),
        (
            [
                {
                    "code": "best_guesses",
                    "text": "Best guesses: 'gnu\n' is unknown.",
                    "suggestion": None,
                },
                {"code": "spelling", "text": "Did you mean 'gnus'?", "suggestion": "gnus"},
            ],
            ["Best guesses: 'gnu\\n' is unknown.", "Did you mean 'gnus'?"],
        ),
    ],
)
@pytest.mark.parametrize("options", [{}, {"as_json": True}, {"paths": True}, {"print0": True}])
def test_notices_are_lines_of_stderr_in_each_format(capsys, notices, lines, options):
    result = answer(hit(1), match="unlikely", notices=notices)
    output.print_search(result, "default", **options)
    printed = capsys.readouterr()
    assert printed.err.splitlines() == lines
    assert "as_json" in options or "Best guesses" not in printed.out


def test_hit_of_unknown_size_shows_no_size(capsys):
    output.print_hits(answer(LIKELY | {"width": 0, "height": 0}))
    assert "0x0" not in capsys.readouterr().out


def test_moments_and_pages_say_where_they_are(table, capsys):
    hits = [hit(1, name="a.mp4") | {"start_ms": 3_723_999}, hit(2) | {"page": 7}, hit(3)]
    lines = [cells(line) for line in table(answer(*hits)) if line.startswith("│")]
    assert [row[1] for row in lines] == [
        "/photos/a.mp4 1:02:03",
        "/photos/a.jpg p. 7",
        "/photos/a.jpg",
    ]


def test_pipe_has_the_position_in_a_column_of_its_own(capsys):
    output.print_hits(answer(hit(1) | {"start_ms": 42_500}, hit(2) | {"page": 7}, hit(3)))
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[2] for row in rows] == ["/photos/a.jpg"] * 3
    assert [row[7] for row in rows] == ["0:42", "p. 7", ""]


def test_matched_line_of_a_film_has_its_time(capsys):
    said = MATCHED | {"kind": "subtitle", "start_ms": 42_500}
    output.print_hits(answer(hit(1, matched=said) | {"start_ms": 40_000}))
    assert "\t0:42: The old windmill" in capsys.readouterr().out


def test_piped_hits_have_position_as_last_field_if_any_has_one(capsys):
    output.print_hits(answer(hit(1) | {"start_ms": 12_345}, hit(2)))
    fields = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in fields] == ["0:12", ""]
    assert {len(line) for line in fields} == {8}
