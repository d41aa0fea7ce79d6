"""Choices of folders: which hold where, and what becomes of them when folders are joined."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.errors import UsageError
from mmsearch.core.folder_choices import (
    FolderChoices,
    KeptTable,
    WalkOptions,
    check_reset,
    describe_choices,
)

ROOT = b"/photos"


def choices(own=None, **below):
    values = {b"": own or {}} | {name.replace("_", "/").encode(): v for name, v in below.items()}
    return FolderChoices(values)


names = st.sampled_from([b"a", b"a/b", b"a/b/c", b"d", b"\xff"])
values = st.fixed_dictionaries(
    {},
    optional={
        "include": st.lists(st.text(max_size=5), max_size=2),
        "exclude": st.lists(st.text(max_size=5), max_size=2),
        "hidden": st.booleans(),
        "follow_symlinks": st.booleans(),
        "captions": st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        "describe": st.dictionaries(
            st.sampled_from(["tags", "ocr"]),
            st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=1),
        ),
    },
)


@given(values, st.dictionaries(names, values))
def test_choices_survive_their_json_form(own, below):
    kept = FolderChoices({b"": own, **below})
    assert FolderChoices.from_json(kept.to_json()) == kept


@pytest.mark.parametrize(
    "damaged",
    [
        {"exclude": "x"},
        {"exclude": [1]},
        {"hidden": "yes"},
        {"captions": []},
        {"describe": ["tags"]},
        {"describe": {"tags": None}},
        {"describe": {"tags": {"vocabulary": 1}}},
        {"folders": {"": {}}},
    ],
)
def test_invalid_stored_choices_are_left_out(damaged):
    assert FolderChoices.from_json(damaged).to_json() == {}


def test_choice_holds_for_folders_below_up_to_one_with_its_own():
    kept = choices({"exclude": ["x"], "hidden": True}, a={"exclude": ["y"]})
    assert kept.get(b"", "exclude") == kept.get(b"b/c", "exclude") == ["x"]
    assert kept.get(b"a", "exclude") == kept.get(b"a/b", "exclude") == ["y"]
    assert kept.get(b"a/b", "hidden") is True
    assert kept.get(b"a/b", "include") == []


def test_patterns_stay_relative_to_the_folder_that_has_them():
    kept = choices({"exclude": ["/x"], "include": ["*.jpg"]}, a={"exclude": ["/y"]})
    assert kept.walk_options(ROOT, b"a") == {
        b"": WalkOptions(("*.jpg",), ("/y",), include_base=ROOT, exclude_base=b"/photos/a")
    }
    options = kept.walk_options(ROOT, b"")
    assert set(options) == {b"", b"a"}
    assert options[b"a"] == kept.walk_options(ROOT, b"a")[b""]
    assert kept.walk_options(b"/", b"")[b"a"].exclude_base == b"/a"


def test_new_value_replaces_the_old_one_and_others_stay():
    kept = choices({"exclude": ["x"], "hidden": True}).change(b"", {"exclude": ["y"]})
    assert kept.to_json() == {"exclude": ["y"], "hidden": True}
    assert kept.change(b"", {"hidden": False}).to_json() == {"exclude": ["y"]}
    assert kept.change(b"", {}, ["exclude"]).to_json() == {"hidden": True}


def test_default_in_a_subfolder_is_kept_because_it_differs_from_the_folder_above():
    kept = choices({"hidden": True}).change(b"a", {"hidden": False})
    assert (kept.get(b"a/b", "hidden"), kept.get(b"b", "hidden")) == (False, True)
    assert kept.change(b"a", {}, ["hidden"]).get(b"a/b", "hidden") is True


@pytest.mark.parametrize(
    ("own", "folder", "expected"),
    [
        ({}, b"a/b", None),
        ({"exclude": ["a/"]}, b"a/b", {"exclude": []}),
        ({"exclude": ["*.jpg"]}, b"a/b", None),
        ({}, b"a/.b", {}),
        ({}, b"@eaDir", {}),
        ({"hidden": True}, b"a/.b", None),
    ],
)
def test_folder_that_is_indexed_by_itself_is_visited_from_then_on(own, folder, expected):
    assert choices(own).visit(ROOT, folder).values.get(folder) == expected


def test_folder_below_its_own_hidden_folder_needs_no_further_choice():
    kept = choices().visit(ROOT, b".a")
    assert kept.visit(ROOT, b".a/b") == kept


def test_new_exclude_drops_the_choices_of_the_folders_that_it_excludes():
    kept = choices({}, a={"hidden": True}, a_b={"exclude": []}, c={"hidden": True})
    changed = kept.change(b"", {"exclude": ["a/"]}).drop_excluded(ROOT, b"")
    assert set(changed.values) == {b"", b"c"}


def test_joined_folder_keeps_its_choices():
    inner = choices({"hidden": True}, b={"exclude": ["x"]})
    joined = choices({"exclude": ["y"]}).absorb(b"2019", inner)
    assert joined.to_json() == {
        "exclude": ["y"],
        "folders": {"2019": {"hidden": True}, "2019/b": {"exclude": ["x"]}},
    }
    assert choices().absorb(b"2019", choices()).to_json() == {}


def test_move_changes_absolute_patterns_and_tables_inside_the_folder():
    kept = choices({"exclude": ["/old [1]/x", "!/old\\ \\[1\\]/y", "/older/z", "w"]})
    kept = kept.with_table(KeptTable("/old [1]/t.csv", b"", "1"))
    kept = kept.with_table(KeptTable("/t.csv", b"", "2"))
    assert kept.move(b"/old [1]", b"/new").to_json() == {
        "exclude": ["/new/x", "!/new/y", "/older/z", "w"],
        "captions": {"/new/t.csv": "1", "/t.csv": "2"},
    }


def test_tables_are_listed_with_their_folders_and_replaced_by_path():
    kept = FolderChoices().with_table(KeptTable("/t.csv", b"a", ""))
    kept = kept.with_table(KeptTable("/t.csv", b"a", "7")).with_table(KeptTable("/u.csv", b"", "8"))
    assert set(kept.tables()) == {KeptTable("/t.csv", b"a", "7"), KeptTable("/u.csv", b"", "8")}


def test_unknown_choice_to_reset_is_an_error():
    check_reset(["exclude"], ["include", "exclude"])
    with pytest.raises(UsageError, match=r"no choice 'exlude' to reset\. Use one of: include"):
        check_reset(["exlude"], ["include", "exclude"])


def test_choices_are_described_with_those_of_folders_below():
    kept = choices({"exclude": ["x", "y"], "hidden": True}, a={"exclude": []})
    assert describe_choices(kept.to_json()) == {
        "exclude": "x,y",
        "hidden": "true",
        "a/ exclude": "none",
    }
    assert describe_choices({"url_column": "url", "tries": 3}) == {
        "url_column": "url",
        "tries": "3",
    }
