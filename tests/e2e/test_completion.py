"""Completion by the installed command, as a shell runs it."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.conftest import COMMAND

TYPED = """
source <(mmsearch --show-completion bash)
COMP_WORDS=({words})
COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_mmsearch_completion mmsearch
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def type_in_bash(photo_index, environment, tmp_path):
    """Return a function that presses Tab after a line in bash."""

    def press_tab(words):
        done = subprocess.run(
            ["bash", "--norc", "-c", TYPED.format(words=words)],
            env=environment
            | {
                "MMSEARCH_HOME": str(photo_index),
                "PATH": f"{COMMAND.parent}:{environment['PATH']}",
                "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert not any(tmp_path.iterdir())
        return done.stdout.splitlines()

    return press_tab


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_words_of_a_library_and_commands(type_in_bash):
    assert "castle" in type_in_bash("mmsearch query cas")
    assert type_in_bash("mmsearch query --index d") == ["default"]
    assert type_in_bash("mmsearch query --sort = -da") == ["-date"]
    assert type_in_bash("mmsearch optimi") == ["optimize"]
    assert type_in_bash("mmsearch query zzzzzz") == [""]


def test_completion_imports_neither_typer_nor_numpy(photo_index, environment):
    program = (
        "import sys, json; from mmsearch.cli.main import run; code = run([]);"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment
        | {
            "MMSEARCH_HOME": str(photo_index),
            "_MMSEARCH_COMPLETE": "complete_zsh",
            "_TYPER_COMPLETE_ARGS": "mmsearch query cas",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stderr)
    assert code == 0
    assert '"castle"' in done.stdout
    assert not {"typer", "numpy", "sqlalchemy", "torch", "rich", "httpx"} & set(modules)
