"""Tests of the fast argument parser: its results match those of typer."""

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.cli import fast_args, search_command
from mmsearch.cli.app import app
from mmsearch.cli.fast_args import options_of, parse_args

COMMANDS = typer.main.get_command(app).commands


@pytest.mark.parametrize("verb", ["query", "similar"])
def test_fast_args_options_match_typer_options(verb):
    typer_options = {}
    for parameter in COMMANDS[verb].params:
        if parameter.param_type_name == "option":
            kind = "flag" if parameter.is_flag else "list" if parameter.multiple else "one"
            typer_options |= dict.fromkeys(parameter.opts, (parameter.name, kind))
    fast_options = {
        flag: (option.name, "flag" if option.type is bool else "list" if option.multiple else "one")
        for option in options_of(verb).values()
        for flag in option.flags
    }
    assert fast_options == typer_options


def parse_with_typer(arguments, monkeypatch):
    """Return the parameters that typer parses, or None if it rejects the arguments."""
    calls = []
    for verb in ("query", "similar"):
        monkeypatch.setattr(search_command, verb, lambda **values: calls.append(values))
    try:
        app(arguments, standalone_mode=False)
    # Typer exits after it shows help.
    except (typer.TyperException, SystemExit):
        return None
    return calls[0] if calls else None


def with_defaults(parsed):
    """Return the parsed values with the defaults of the missing parameters."""
    return fast_args.with_defaults(parsed.command, parsed.values)


FAST_PATH_ARGUMENTS = [
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
    ["query", "x", "--sort", "-date", "-people"],
    ["query", "--speech", "q.wav", "--speech-language=de", "-k", "3"],
    ["similar", "a.jpg", "--sort", "-name"],
    ["similar", "a.jpg", "-k", "3", "--print0"],
]


@pytest.mark.parametrize("arguments", FAST_PATH_ARGUMENTS, ids=" ".join)
def test_parse_args_plain_arguments_match_typer(arguments, monkeypatch):
    assert with_defaults(parse_args(arguments)) == parse_with_typer(arguments, monkeypatch)


TYPER_ONLY_ARGUMENTS = [
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
    ["query", "x", "--sort", "-people"],
    ["query", "x", "--sort", "colour"],
    ["query", "x", "--tag", "-people"],
    ["query", "x", "-k", "0"],
    ["query", "x", "--min-confidence", "1.5"],
    ["query", "x", "--min-score", "-0.5"],
    ["query", "x", "--batch", "-"],
    ["query", "--", "-people"],
    ["query", "caf\udce9"],
    ["query", "x", "--index", "caf\udce9"],
    ["similar"],
    ["similar", "a.jpg", "b.jpg"],
    ["similar", "a.jpg", "--tag", "x"],
]


@pytest.mark.parametrize("arguments", TYPER_ONLY_ARGUMENTS, ids=ascii)
def test_parse_args_unsupported_arguments_returns_none(arguments):
    assert parse_args(arguments) is None


WORDS = st.sampled_from(
    (
        *("car", "-people", "-", "+", "--", "", "\u00e9", "--paths", "--json", "-v0"),
        *("-k", "5", "05", "1e3", " 7", "-k5", "-kx", "--min-score", "0.5", ".5", "nan"),
        *("--index", "--index=a", "--tag", "--not"),
    )
)


@given(st.lists(WORDS, max_size=5))
def test_parse_args_random_arguments_match_typer_or_return_none(words):
    with pytest.MonkeyPatch.context() as monkeypatch:
        parsed = parse_args(["query", *words])
        if parsed is not None:
            assert with_defaults(parsed) == parse_with_typer(["query", *words], monkeypatch)


def test_parse_args_values_have_parameter_types():
    values = parse_args(
        ["query", "x", "--home", "h", "--image", "a", "-k", "5", "--min-score", "1"]
    )[1]
    assert values["home"] == Path("h")
    assert values["image"] == [Path("a")]
    assert (values["k"], values["min_score"]) == (5, 1.0)
    assert isinstance(values["min_score"], float)
