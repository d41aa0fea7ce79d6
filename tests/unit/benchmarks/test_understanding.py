"""Judgements of readings, with readings made by hand."""

import json

import pytest

from benchmarks.quality import understanding
from benchmarks.quality.understanding import (
    content_words,
    first_runs,
    judge,
    summarize,
    wilson_interval,
)
from mmsearch.core.understood import Understood

ROW = {
    "query": "Anna at the beach in Portugal last summer",
    "language": "en",
    "kind": "mixed",
    "today": "2026-11-30",
    "understood": {
        "after": "2026-06-01",
        "before": "2026-09-01",
        "place": "Portugal",
        "people": ["Anna"],
        "text": "at the beach",
    },
}
RIGHT = Understood(
    "at the beach", after="2026-06-01", before="2026-09-01", place="Portugal", people=("Anna",)
)
TRAP = {
    "query": "a nice view",
    "language": "en",
    "kind": "trap",
    "today": "2026-11-30",
    "understood": {
        "after": None,
        "before": None,
        "place": None,
        "people": [],
        "text": "a nice view",
    },
}


def change(understood, **changes):
    return Understood(**(vars(understood) | changes))


def test_judge_the_expected_reading_is_right():
    judgement = judge(ROW, RIGHT)
    assert judgement.right
    assert judgement.verbatim
    assert not judgement.invented + judgement.different + judgement.missed


@pytest.mark.parametrize(
    ("changes", "field", "names"),
    [
        ({"after": "2025-06-01"}, "different", ("date",)),
        ({"after": None, "before": None}, "missed", ("date",)),
        ({"months": (6, 7, 8)}, "different", ("date",)),
        ({"place": "Spain"}, "different", ("place",)),
        ({"near": True}, "different", ("place",)),
        ({"people": ()}, "missed", ("people",)),
        ({"people": ("Anna", "Ben")}, "different", ("people",)),
    ],
)
def test_judge_another_filter_is_wrong(changes, field, names):
    judgement = judge(ROW, change(RIGHT, **changes))
    assert not judgement.right
    assert getattr(judgement, field) == names


def test_judge_a_filter_of_a_query_without_filters_is_invented():
    place = judge(TRAP, Understood("view", place="Nice"))
    assert not place.right
    assert place.invented == ("place",)
    text = judge(TRAP, Understood("view"))
    assert not text.right
    assert not text.invented


def test_judge_text_compares_words_without_case_and_function_words():
    judgement = judge(ROW, change(RIGHT, text="Beach"))
    assert judgement.right
    assert not judgement.verbatim
    assert not judge(ROW, change(RIGHT, text="the sea")).right


def test_judge_names_match_without_accents():
    row = ROW | {"understood": ROW["understood"] | {"people": ["José García"], "place": "Krakow"}}
    assert judge(row, change(RIGHT, people=("José García",), place="Kraków")).right


def test_content_words_keep_without_and_or():
    assert content_words("die Katze ohne Hund oder Maus", "de") == [
        "katze",
        "ohne",
        "hund",
        "oder",
        "maus",
    ]
    assert content_words("une photo de l'été", "fr") == ["ete"]


def test_wilson_interval_against_known_values():
    assert wilson_interval(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)


def test_summarize_counts_by_language_and_kind_and_lists_the_wrong_ones():
    summary = summarize([judge(ROW, RIGHT), judge(TRAP, Understood("view", place="Nice"))])
    assert (summary["all"]["right"], summary["queries"], summary["invented"]) == (1, 2, 1)
    assert summary["kinds"]["trap"]["right"] == 0
    assert summary["languages"]["en"]["total"] == 2
    assert [row["query"] for row in summary["wrong"]] == ["a nice view"]


def test_first_runs_of_judging_sets_are_kept_without_queries(tmp_path, monkeypatch):
    monkeypatch.setattr(understanding, "RESULTS", tmp_path / "results.json")
    wrong = summarize([judge(ROW, RIGHT), judge(TRAP, Understood("view", place="Nice"))])
    right = summarize([judge(ROW, RIGHT)])
    others = set(understanding.SET_NAMES) - {"understanding_check"}
    sets = dict.fromkeys(others, right)
    first = first_runs({**sets, "understanding_check": wrong})
    (row,) = first["first_check"]["wrong"]
    assert (row["kind"], row["invented"]) == ("trap", ("place",))
    assert "query" not in row
    (tmp_path / "results.json").write_text(json.dumps(first), encoding="utf-8")
    later = first_runs({**dict.fromkeys(sets, wrong), "understanding_check": right})
    assert later["first"]["all"]["right"] == 1
    assert later["first_check"]["all"] == first["first_check"]["all"]
