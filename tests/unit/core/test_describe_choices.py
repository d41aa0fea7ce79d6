"""The choice ``describe``: its values, and the contents whose texts sources want."""

from pathlib import Path

import pytest

from mmsearch.core.derived import ContentScope, FolderScope
from mmsearch.core.describe_choices import WantedTexts, list_wanted, to_describe_choice
from mmsearch.core.folder_choices import FolderChoices, describe_choices
from mmsearch.core.records import SourceRecord


@pytest.mark.parametrize(
    ("value", "choice"),
    [
        (None, {}),
        ([], {}),
        ("none", {}),
        ("tags", {"tags": {}}),
        (("tags", "ocr"), {"ocr": {}, "tags": {}}),
        ({"tags": None}, {"tags": {}}),
        ({"tags": {"vocabulary": Path("/t.txt")}}, {"tags": {"vocabulary": "/t.txt"}}),
        ({"tags": {"vocabulary": None}}, {"tags": {}}),
        ({"tags": {"vocabulary": "t"}}, {"tags": {"vocabulary": str(Path("t").absolute())}}),
    ],
)
def test_names_and_mappings_become_one_form(value, choice):
    assert to_describe_choice(value) == choice
    assert to_describe_choice(choice) == choice


@pytest.mark.parametrize(
    "value",
    [
        7,
        [7],
        {7: {}},
        {"tags": "x"},
        {"tags": {"vocabulary": 7}},
        {"tags": {"vocabulary": ""}},
        {"tags": {"colour": "x"}},
        {"ocr": {"vocabulary": "x"}},
    ],
)
def test_other_values_are_refused(value):
    with pytest.raises((TypeError, ValueError)):
        to_describe_choice(value)


def source(number, *, kind="folder", **choices):
    return SourceRecord(number, kind, str(number), b"/%d" % number, choices)


def test_first_source_that_wants_a_text_decides_about_its_options():
    tags, others = {"tags": {"vocabulary": "/x"}}, {"tags": {}, "ocr": {}}
    sources = [
        source(1),
        source(2, describe=tags),
        source(3, kind="archive", describe=others),
        source(4, describe=tags),
    ]
    first, second, third, fourth = map(FolderScope, (1, 2, 3, 4))
    assert list_wanted(sources) == [
        WantedTexts("tags", {"vocabulary": "/x"}, ContentScope(((second, fourth),))),
        WantedTexts("tags", {}, ContentScope(((third,),), (second, fourth))),
        WantedTexts("ocr", {}, ContentScope(((third,),))),
    ]
    assert list_wanted(sources)[2].within(first) == ContentScope(((first,), (third,)))


def test_folder_with_its_own_choice_is_left_out_of_the_one_above():
    below = {"in": {"describe": {}}, "in/deep": {"describe": {"ocr": {}}}, "else": {}}
    (wanted,) = list_wanted([source(1, describe={"ocr": {}}, folders=below)])
    assert wanted.scope == ContentScope(
        ((FolderScope(1, b"", (b"in", b"in/deep")), FolderScope(1, b"in/deep")),)
    )


def test_choice_is_shown_and_moves_with_its_folder():
    choices = {"describe": {"ocr": {}, "tags": {"vocabulary": "/a/tags.txt"}}}
    assert describe_choices(choices) == {"describe": "ocr,tags (vocabulary /a/tags.txt)"}
    assert describe_choices({"describe": {}}) == {"describe": "none"}
    moved = FolderChoices.from_json(choices).move(b"/a", b"/b").to_json()
    assert moved["describe"]["tags"] == {"vocabulary": "/b/tags.txt"}
