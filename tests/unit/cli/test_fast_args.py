"""What is read without typer is what typer reads."""

import inspect
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.cli import search, search_command
from mmsearch.cli.app import app
from mmsearch.cli.fast_args import OPTIONS, read

COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("verb", ["query", "similar"])
def test_the_options_are_those_of_typer(verb):
    theirs = {}
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "option":
            kind = "flag" if parameter.is_flag else "list" if parameter.multiple else "one"
            theirs |= dict.fromkeys(parameter.opts, (parameter.name, kind))
    ours = {
        option: (own.name, "flag" if own.parse is None else "list" if own.repeats else "one")
        for option, own in OPTIONS[verb].items()
    }
    assert ours == theirs


@pytest.mark.parametrize("verb", ["query", "similar"])
def test_the_defaults_are_those_of_typer(verb):
    def defaults(function):
        parameters = inspect.signature(function).parameters.values()
        return {own.name: own.default for own in parameters if own.name != "opened"}

    assert defaults(getattr(search_command, verb)) == defaults(getattr(search, verb))


def by_typer(arguments, monkeypatch):
    """The parameters that typer reads; None if it refuses."""
    found = []
    for verb in ("query", "similar"):
        monkeypatch.setattr(search_command, verb, lambda **values: found.append(values))
    try:
        app(arguments, standalone_mode=False)
    # It shows help by leaving.
    except (typer.TyperException, SystemExit):
        return None
    return found[0] if found else None


def completed(asked):
    """With the defaults of what was not given."""
    signature = inspect.signature(getattr(search, asked.verb))
    values = {own.name: own.default for own in signature.parameters.values()}
    return values | asked.values


PLAIN = [
    ["query"],
    ["query", "a red car"],
    ["query", "a", "red", "car", "-k", "5"],
    ["query", "-k5", "car"],
    ["query", "dog", "-", "cat", "+", "./a.jpg"],
    ["query", "street", "-people", '-"two cars"', "--not", "rain"],
    ["query", "--json", "--index=b", "--home", "/h", "car", "-v", "-0", "--paths"],
    ["query", "x", "--image", "a.jpg", "--image=b.jpg", "--tag", "one", "--tag", "two"],
    ["query", "x", "--min-score", "0.25", "--min-confidence=1", "--min-width", "100"],
    ["query", "x", "--where", "width > 5", "--after", "2020", "--near=1,2,3", "--device", "cpu"],
    ["query", "x", "--sheet", "s.html", "--open", "--batch", "lines.txt"],
    ["similar", "a.jpg", "-k", "3", "--print0"],
]


@pytest.mark.parametrize("arguments", PLAIN, ids=" ".join)
def test_plain_arguments_are_read(arguments, monkeypatch):
    assert completed(read(arguments)) == by_typer(arguments, monkeypatch)


LEFT = [
    [],
    ["--help"],
    ["status"],
    ["query", "--help"],
    ["query", "x", "--nothing"],
    ["query", "x", "-k"],
    ["query", "x", "-k", "many"],
    ["query", "x", "-k", "-1"],
    ["query", "x", "-k=5"],
    ["query", "x", "--json=yes"],
    ["query", "x", "--ind", "y"],
    ["query", "x", "--index", ""],
    ["query", "x", "--device", "abacus"],
    ["query", "x", "--min-score", "-0.5"],
    ["query", "x", "--batch", "-"],
    ["query", "--", "-people"],
    ["query", "caf\udce9"],
    ["query", "x", "--index", "caf\udce9"],
    ["similar"],
    ["similar", "a.jpg", "b.jpg"],
    ["similar", "a.jpg", "--tag", "x"],
]


@pytest.mark.parametrize("arguments", LEFT, ids=ascii)
def test_anything_else_is_left_to_typer(arguments):
    assert read(arguments) is None


WORDS = st.sampled_from(
    (
        *("car", "-people", "-", "+", "--", "", "\u00e9", "--paths", "--json", "-v0"),
        *("-k", "5", "05", "1e3", " 7", "-k5", "-kx", "--min-score", "0.5", ".5", "nan"),
        *("--index", "--index=a", "--tag", "--not"),
    )
)


@given(st.lists(WORDS, max_size=5))
def test_whatever_is_read_is_what_typer_reads(words):
    with pytest.MonkeyPatch.context() as monkeypatch:
        asked = read(["query", *words])
        if asked is not None:
            assert completed(asked) == by_typer(["query", *words], monkeypatch)


def test_values_have_the_types_of_the_parameters():
    values = read(["query", "x", "--home", "h", "--image", "a", "-k", "5", "--min-score", "1"])[1]
    assert values["home"] == Path("h")
    assert values["image"] == [Path("a")]
    assert (values["k"], values["min_score"]) == (5, 1.0)
    assert isinstance(values["min_score"], float)
