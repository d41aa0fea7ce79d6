"""Tests that the documents agree with the command."""

import io
import pydoc
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import pytest

import mmsearch
from mmsearch.core import errors

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
        if not _is_same_output(expected, printed):
            pytest.fail(f"$ {command}\nexpected:\n{expected}\nprinted:\n{printed}")


TOLERANCES = {r"\b0\.\d{4}\b": 0.006, r"\b\d{1,3}(?=%)": 2}
"""Patterns of scores and percentages, and how far they are from what a document shows at most.

The text tower is int8 on machines where that is faster, and float32 on others.
"""


def _is_same_output(expected, printed):
    pieces, tolerances, end = [], [], 0
    for number in re.finditer("|".join(TOLERANCES), expected):
        pieces.append(expected[end : number.start()])
        (tolerance,) = (
            tolerance
            for pattern, tolerance in TOLERANCES.items()
            if re.match(pattern, expected[number.start() :])
        )
        tolerances.append((float(number[0]), tolerance))
        end = number.end()
    pieces.append(expected[end:])
    texts = (r"\s+".join(map(re.escape, re.split(r"\s+", piece))) for piece in pieces)
    pattern = r"(\d+\.?\d*)".join(text.replace(r"\.\.\.", ".*?") for text in texts)
    found = re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL)
    return found is not None and all(
        float(value) == pytest.approx(number, abs=tolerance)
        for value, (number, tolerance) in zip(found.groups(), tolerances, strict=True)
    )


def test_python_reference_shows_every_public_name():
    pages = sorted((ROOT / "docs" / "reference").glob("python*.md"))
    shown = re.findall(
        r"^\.\. auto(?:class|function|module):: (.+)$",
        "\n".join(page.read_text(encoding="utf-8") for page in pages),
        re.MULTILINE,
    )
    assert errors.__name__ in shown
    assert {*dir(errors), "__version__", *shown}.issuperset(mmsearch.__all__)
    for name in shown:
        assert pydoc.locate(name if "." in name else f"mmsearch.{name}"), name


def test_application_guide_examples_run(photo_index, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("MMSEARCH_HOME", str(shutil.copytree(photo_index, tmp_path / "home")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    shutil.copy(min((photos / "photos").iterdir()), tmp_path / "photos")
    (tmp_path / "images").mkdir()
    for number, path in enumerate(sorted((photos / "photos").iterdir())[1:3], start=1):
        shutil.copy(path, tmp_path / "images" / f"{number}.jpg")
    guide = (ROOT / "docs" / "how-to" / "application.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    printed = []
    for example in examples:
        with redirect_stdout(io.StringIO()) as output:
            exec(example, {})  # noqa: S102
        printed.append(output.getvalue())
    searched, asked, records, threads, requests, coroutine, filtered, updated = printed
    assert searched.count("\n") == 5
    assert asked == ""
    found, left = records.splitlines()
    assert found == "sku-1 90"
    assert left.startswith("1 True (Text(kind='caption', text='a red car'")
    assert threads.count(".jpg\n") == 3
    assert requests.startswith("a dog ")
    assert coroutine == "3\n"
    with_condition, with_mapping = map(int, filtered.split())
    assert 0 < with_condition <= 10
    assert 0 <= with_mapping <= 10
    assert updated == "0 added, 0 could not be read\n"


def test_settings_page_shows_every_setting_and_default():
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", page, re.MULTILINE))
    settings = mmsearch.Settings()
    assert list(rows) == [field.name for field in fields(settings)]
    for name in rows.keys() - {"home", "cache", "ray_address"}:
        default = getattr(settings, name)
        assert rows[name] == f"`{str(default).lower() if default is False else default}`"


def test_linked_files_exist():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(
            r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")
        ):
            assert (document.parent / target).exists(), (document.name, target)
