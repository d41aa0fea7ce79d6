"""Tests of arguments: options reach their command, and mistakes are reported in plain sentences."""

import re
import sys
from pathlib import Path

import pytest
import typer

from mmsearch import api
from mmsearch.cli import main, search_command, streams
from mmsearch.cli.app import app
from mmsearch.cli.fast_args import parse_args


def list_commands(group, path=()):
    """Yield the words of every command and its parameters."""
    for name, command in group.commands.items():
        yield (*path, name), command.params
        yield from list_commands(command, (*path, name)) if hasattr(command, "commands") else ()


COMMANDS = dict(list_commands(typer.main.get_command(app)))

ARGUMENTS = {
    ("index",): ["."],
    ("watch",): ["."],
    ("reindex",): [],
    ("optimize",): [],
    ("query",): ["a dog"],
    ("similar",): ["a.jpg"],
    ("facets",): [],
    ("duplicates",): [],
    ("serve",): ["--no-http"],
    ("mcp",): [],
    ("eval",): ["set.csv"],
    ("status",): [],
    ("check",): [],
    ("describe",): [],
    ("repair",): [],
    ("compact",): [],
    ("backup",): ["copy"],
    ("restore",): ["copy"],
    ("export",): ["vectors"],
    ("import",): ["vectors"],
    ("roots",): [],
    ("calibrate",): [],
    ("models", "pull"): [],
    ("roots", "set"): ["photos", "."],
    ("sources",): [],
    ("sources", "list"): [],
    ("sources", "add"): ["photos"],
    ("sources", "set"): ["photos"],
    ("sources", "remove"): ["photos"],
    ("sources", "refresh"): [],
}
"""Arguments of every command that works on an index, by the words of the command."""


def options_of(words):
    return {flag for parameter in COMMANDS[words] for flag in parameter.opts}


def test_arguments_cover_every_command_with_an_index():
    assert {words for words in COMMANDS if "--index" in options_of(words)} == ARGUMENTS.keys()
    assert all("--home" in options_of(words) for words in ARGUMENTS)


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Return a function that runs a command, and returns the index and home that it opens."""

    class OpenedError(Exception):
        pass

    def record(name, *_, home=None, settings=None, **__):
        raise OpenedError(name, str(home or settings.home))

    def record_copy(_, name, *, home, **__):
        record(name, home=home)

    monkeypatch.setattr(api, "open_index", record)
    monkeypatch.setattr(api, "restore_index", record_copy)
    monkeypatch.chdir(tmp_path)
    Path("set.csv").write_text("query,path\na dog,a.jpg\n")

    def run(*arguments):
        with pytest.raises(OpenedError) as reached:
            app(list(arguments), standalone_mode=False)
        parsed = parse_args(arguments)
        if parsed is not None:
            assert (*parsed.values["name"], str(parsed.values["home"])) == reached.value.args
        return reached.value.args

    return run


@pytest.mark.parametrize("words", ARGUMENTS, ids=" ".join)
def test_index_and_home_reach_the_command_in_every_place(words, opened, tmp_path):
    home = str(tmp_path / "home")
    arguments, given = ARGUMENTS[words], ["--index", "other", "--home", home]
    assert opened(*words, *given, *arguments) == ("other", home)
    assert opened(*words, *arguments, *given) == ("other", home)
    assert opened(*words, f"--home={home}", *arguments, "--index=other") == ("other", home)


def test_options_before_a_command_of_a_group_reach_it(opened, tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    rest = ["set", "photos", "."]
    assert opened("roots", "--index", "other", "--home", first, *rest) == ("other", first)
    assert opened("roots", "--index", "other", *rest, "--home", first) == ("other", first)
    # An option after the command is closer to it.
    own = [*rest, "--index", "own", "--home", second]
    assert opened("roots", "--index", "other", "--home", first, *own) == ("own", second)


@pytest.fixture(autouse=True)
def loud_libraries(monkeypatch):
    """Keep `main.run` from silencing warnings of the tests after it."""
    monkeypatch.setattr(streams, "quiet_libraries", lambda: None)


def run_failing(capsys, *arguments):
    """Return the one-line error message of a command that fails with exit code 2."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sys, "argv", ["mmsearch", *arguments])
        assert main.run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("Error: ")
    assert "Invalid value" not in line
    assert "usage:" not in line.lower()
    return line.removeprefix("Error: ")


def kind_of(parameter):
    """Return ``flag``, ``int``, ``float`` or ``text``."""
    if parameter.is_flag:
        return "flag"
    # Versions of typer that use click have a type in place of an annotation.
    descriptor = getattr(parameter, "type_descriptor", None)
    name = str(descriptor.annotation) if descriptor else parameter.type.name
    return next((kind for kind in ("int", "float") if kind in name), "text")


OPTIONS = [
    (words, parameter)
    for words, parameters in COMMANDS.items()
    for parameter in parameters
    if parameter.param_type_name == "option"
]


@pytest.mark.parametrize(
    ("words", "parameter"),
    OPTIONS,
    ids=[f"{' '.join(words)} {parameter.opts[0]}" for words, parameter in OPTIONS],
)
def test_wrong_or_missing_value_of_every_option_is_one_plain_sentence(words, parameter, capsys):
    flag, kind = max(parameter.opts, key=len), kind_of(parameter)
    arguments = (*words, *ARGUMENTS.get(words, ["x"]))
    hint = rf"See '.*mmsearch {' '.join(words)} --help'\."
    if kind == "flag":
        if flag.startswith("--"):
            message = run_failing(capsys, *arguments, f"{flag}=yes")
            assert re.fullmatch(rf"{flag} takes no value\. {hint}", message)
        return
    message = run_failing(capsys, *arguments, flag)
    assert re.fullmatch(rf"{flag} needs a value\. {hint}", message)
    if kind != "text":
        number = "whole number" if kind == "int" else "number"
        for value in ("ten", "1,5", "") if kind == "int" else ("ten", "1,5"):
            message = run_failing(capsys, *arguments, flag, value)
            assert re.fullmatch(rf"{flag} must be a {number}, got '{value}'\. {hint}", message)
        limits = parameter if hasattr(parameter, "min") else parameter.type
        low, high = getattr(limits, "min", None), getattr(limits, "max", None)
        if low is not None:
            message = run_failing(capsys, *arguments, flag, "-1")
            assert re.fullmatch(rf"{flag} must be at least {low}, got '-1(\.0)?'\. {hint}", message)
        if high is not None:
            message = run_failing(capsys, *arguments, flag, "99999")
            assert re.fullmatch(rf"{flag} must be at most {high}, got '99999.*'\. {hint}", message)


WRONG_TEXTS = [
    (["query", "x", "--device", "abacus"], "--device must be auto, cuda, mps or cpu"),
    (["index", ".", "--device", "abacus"], "--device must be auto, cuda, mps or cpu"),
    (["query", "x", "--sort", "colour"], "--sort must be score, date, -date, name, -name, size or"),
    (["similar", "x", "--sort", "-people"], "--sort must be score, date, -date, name, -name, size"),
    (["query", "x", "--mode", "fast"], "Unknown mode 'fast'. Known: vector"),
    (["query", "x", "--orientation", "round"], "Unknown orientation 'round'. Known: landscape"),
    (["query", "x", "--after", "banana"], "'banana' is not a date. Write 2020"),
    (["query", "x", "--near", "Paris"], "'Paris' is not a circle"),
    (["query", "x", "--where", "width"], "In the condition, 'width'"),
    (["query", "x", "--batch", "none.txt"], "A description and --batch were both given."),
    (["query", "--batch", "none.txt"], "none.txt cannot be read as lines of text: no such file"),
    (["query", "x", "--sheet", "x.pdf"], "A contact sheet cannot be written as .pdf. Choose"),
    (["query", "x", "--sheet", "none/x.png"], "There is no folder none for the contact sheet."),
    (["similar", "x", "--sheet", "x"], "A contact sheet cannot be written as 'x'. Choose"),
    (["optimize", "--memory", "4"], "--memory must be a number with a unit, such as 4GB, got '4'."),
    (["optimize", "--latency", "x"], "--latency must be a number with a unit, such as 20ms"),
    (["reindex", "--text-weight", "x"], "--text-weight must be a number or KIND=NUMBER, got 'x'."),
    (["eval", "set.csv", "--ties", "x"], "Unknown order of ties 'x'. Choose one of: index"),
    (["eval", "set.csv", "--plot", "x.pdf"], "A plot is written as PNG, not as 'x.pdf'. Use"),
    (["eval", "set.csv", "--plot", "none/x.png"], "There is no folder none for the plot."),
    (["eval", "set.csv", "--mode", "fast"], "Unknown mode 'fast'. Known: vector"),
    (["eval", "set.csv", "--compare", "mode=fast"], "Unknown mode 'fast'. Known: vector"),
    (["eval", "set.csv", "--compare", "size=1"], "'size' is not a setting that can be compared."),
    (["mcp", "--port", "1"], "--host and --port apply only to HTTP. Add --http."),
    (["serve", "--allow-origin", "x.org"], "--allow-origin must be an address such as https://"),
    (["serve", "--allow-origin", "https://x.org/"], "--allow-origin must be an address such as"),
    (["serve", "--idle", "1"], "--idle does not apply to an HTTP server. Add --no-http."),
    (["roots", "--json", "set", "a", "."], "--json does not apply to 'roots set'. Leave it out."),
    (["--index", "x", "query", "a"], "Write --index after the command, as in '"),
    (["--json", "query", "a"], "Write --json after the command, as in '"),
    (["--version=1"], "--version takes no value."),
    (["--nothing"], "There is no option --nothing. See '"),
    (["query", "x", "--jsn"], "There is no option --jsn. Did you mean --json"),
    (["statsu"], "There is no command 'statsu'. Did you mean status? See '"),
    (["search", "a dog"], "There is no command 'search'. Did you mean query? See '"),
    (["roots", "move"], "There is no command 'move'. Did you mean set? See '"),
    (["roots", "list"], "There is no command 'list'. See '"),
    (["status", "x"], "Unexpected argument 'x'. See '"),
    (["roots", "set", "a"], "FOLDER is missing. See '"),
]


@pytest.mark.parametrize(("arguments", "start"), WRONG_TEXTS, ids=lambda value: str(value)[:60])
def test_wrong_arguments_are_one_plain_sentence_with_a_next_step(
    arguments, start, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSEARCH_HOME", str(tmp_path / "home"))
    Path("set.csv").write_text("query,path\na dog,a.jpg\n")
    message = run_failing(capsys, *arguments)
    assert message.startswith(start)
    assert len(re.findall(r"[.?:](?= |$)", message)) >= 2


def test_urls_of_pictures_are_not_read_as_paths():
    similar = search_command.make_request("similar", image=Path("https://example.org/a.jpg"))
    assert [term.url for term in similar.query.terms] == ["https://example.org/a.jpg"]
    images = [Path("HTTP://example.org/a.jpg"), Path("https"), Path("a/http:/b.jpg")]
    query = search_command.make_request("query", text=["a dog"], image=images)
    assert [term.url for term in query.query.terms] == [
        None,
        None,
        "HTTP://example.org/a.jpg",
        None,
    ]
    assert [term.image for term in query.query.terms][:2] == images[1:]
