"""Errors speak Python to programs and commands to people at a terminal."""

import ast
import copy
import re
from pathlib import Path

import pytest

import mmsearch
from mmsearch.core.errors import Hint, StateError, UsageError

PACKAGE = Path(mmsearch.__file__).parent
COMMAND_FOLDERS = {"cli", "mcp", "server"}
ALLOWED = {
    " --force-reinstall",
    " (add --follow-symlinks)",
    "Run here: ray start --address=",
    " --num-cpus=0 . ",
    "Check the address, and that the head runs (ray start --head). ",
    "Start nodes that have: ray start --address=HOST:PORT",
}
"""Options of pip and Ray, and a report that commands print."""
COMMAND_WORDS = re.compile(
    r"(?<=[\s(])--[a-z]|\bmmsearch (?:index|query|check|repair|reindex|remove|models)\b"
)

HINT = Hint("{} to rebuild it.", "Call index.repair()", "Run 'mmsearch repair'")


def test_error_text_is_python_and_command_text_is_command():
    error = StateError("It is damaged.", HINT)
    assert str(error) == "It is damaged. Call index.repair() to rebuild it."
    assert error.command_text == "It is damaged. Run 'mmsearch repair' to rebuild it."


def test_error_without_words_that_differ_reads_the_same_everywhere():
    error = StateError("It is damaged.", "Try again.")
    assert str(error) == error.command_text == error.served_text == "It is damaged. Try again."
    assert StateError("It is damaged.").command_text == "It is damaged."


def test_server_speaks_of_parameters_to_clients_and_of_commands_to_its_operator():
    assert "index.repair" in UsageError("No.", HINT).served_text
    assert "mmsearch repair" in StateError("No.", HINT).served_text


def test_hint_survives_the_way_from_another_process():
    error = copy.deepcopy(StateError("It is damaged.", HINT))
    assert str(error) == "It is damaged. Call index.repair() to rebuild it."
    assert error.command_text == "It is damaged. Run 'mmsearch repair' to rebuild it."


def library_modules():
    return [
        path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in COMMAND_FOLDERS
    ]


def error_texts(tree):
    """Yield the texts of raised errors and of constants named *HINT, as Python programs see them.

    The last argument of a `Hint` is for the command line.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if name == "Hint":
            yield from texts_in(call.args[:2])
        elif name.endswith("Error"):
            yield from texts_in(call.args)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.Return) and node.value is not None:
            yield from texts_in([node.value])


def texts_in(nodes):
    """Yield the literal texts below nodes, except those within a `Hint` or a `Notice`.

    Notices are shown to people, who have the commands.
    """
    for node in nodes:
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Hint", "Notice"):
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        else:
            yield from texts_in(ast.iter_child_nodes(node))


@pytest.mark.parametrize("path", library_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_errors_of_library_do_not_name_options_or_commands(path):
    found = [
        text for text in error_texts(ast.parse(path.read_text())) if COMMAND_WORDS.search(text)
    ]
    assert set(found) <= ALLOWED
