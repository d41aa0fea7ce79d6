"""Tests that the documents agree with the command."""

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_cli_reference_is_current(tmp_path, environment):
    written = tmp_path / "cli.md"
    program = ["-m", "typer", "mmsearch.cli.app", "utils", "docs", "--name", "mmsearch"]
    subprocess.run(
        [sys.executable, *program, "--title", "The mmsearch command", "--output", written],
        check=True,
        capture_output=True,
        env=environment,
    )
    current = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert current == written.read_text(encoding="utf-8"), "run scripts/docs"


def test_options_in_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    for line in re.findall(r"^mmsearch .*|`mmsearch [^`]*`", readme, re.MULTILINE):
        for option in re.findall(r"--[a-z0-9-]+", line):
            assert f"`{option}" in reference or f", {option}" in reference, (option, line)


@pytest.mark.parametrize("document", ["README.md", "docs/tutorial/first-hour.md"])
def test_console_blocks_print_the_output_they_show(document, environment, photos, tmp_path):
    shutil.copytree(photos, tmp_path / "tests" / "photos")
    environment = environment | {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "MMSEARCH_HOME": str(tmp_path / "indexes"),
    }
    text = (ROOT / document).read_text(encoding="utf-8")
    steps = [
        step
        for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    ]
    assert steps
    for command, expected in steps:
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == 0, (command, printed)
        if not doctest.OutputChecker().check_output(
            expected, printed, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        ):
            pytest.fail(f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}")


def test_linked_files_exist():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(
            r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")
        ):
            assert (document.parent / target).exists(), (document.name, target)
