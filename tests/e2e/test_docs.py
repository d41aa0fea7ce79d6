"""What the documents say of the command is what the command is."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_cli_reference_is_current(tmp_path, environment):
    written = tmp_path / "cli.md"
    program = ["-m", "typer", "mmsearch.cli.app", "utils", "docs", "--name", "mmsearch"]
    subprocess.run(
        [sys.executable, *program, "--title", "The mmsearch command", "--output", written],
        check=True,
        capture_output=True,
        env=environment,
    )
    current = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert current == written.read_text(encoding="utf-8"), "run scripts/docs"


def test_every_option_that_the_readme_names_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for line in re.findall(r"^mmsearch .*|`mmsearch [^`]*`", readme, re.MULTILINE):
        for option in re.findall(r"--[a-z0-9-]+", line):
            assert f"`{option}" in reference or f", {option}" in reference, (option, line)


def test_every_file_that_the_documents_link_to_exists():
    for document in ROOT.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (ROOT / target).exists(), (document.name, target)
