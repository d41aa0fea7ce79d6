"""Packages that a start of the command imports: a new heavy one fails these tests."""

import json
import re
import shutil
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
before = set(sys.modules)
from mmsearch.cli.main import run
code = run(sys.argv[1:])
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = {name for name in loaded - set(sys.stdlib_module_names) if "swig" not in name}
print(json.dumps(sorted(foreign)), file=sys.stderr)
sys.exit(code)
"""

# rich imports attr if it is installed.
TYPER = {
    "annotated_doc",
    "annotated_types",
    "attr",
    "markdown_it",
    "mdurl",
    "pydantic",
    "pydantic_core",
    "pygments",
    "rich",
    "shellingham",
    "typer",
    "typing_extensions",
    "typing_inspection",
}

# The last three are loaded by ONNX Runtime and by FAISS.
SEARCH = {
    "numpy",
    "faiss",
    "onnxruntime",
    "tokenizers",
    "xxhash",
    "org",
    "packaging",
    "nvidia",
}


@pytest.fixture
def loaded(environment):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            env=environment,
            capture_output=True,
            check=True,
        )
        return set(json.loads(done.stderr.splitlines()[-1]))

    return run


def test_help_imports_only_command_line_packages(loaded):
    assert loaded("--help") <= TYPER | {"mmsearch", "platformdirs"}


def test_query_imports_only_search_packages(loaded, photo_index):
    found = loaded("query", "a red car", "--home", photo_index)
    assert found <= SEARCH | {"mmsearch", "platformdirs"}


def test_query_with_filters_imports_only_search_packages(loaded, photo_index):
    filters = ("--min-width", "10", "--where", "width > height", "--path", "*.jpg")
    found = loaded("query", "a red car", *filters, "--home", photo_index)
    assert found <= SEARCH | {"mmsearch", "platformdirs"}


@pytest.mark.parametrize("command", ["status", "list", "check"])
def test_reading_command_imports_no_sqlalchemy(loaded, photo_index, command):
    assert "sqlalchemy" not in loaded(command, "--home", photo_index)


def test_query_help_imports_no_search_packages(loaded, photo_index):
    found = loaded("query", "--help")
    assert not found & SEARCH


def test_unchanged_folder_without_texts_of_models_imports_no_enricher(
    environment, photos, tmp_path
):
    (tmp_path / "photos").mkdir()
    shutil.copy(min((photos / "photos").glob("*.jpg")), tmp_path / "photos")
    program = PROGRAM.replace('name.partition(".")[0]', "name")

    def run(*options):
        words = ["index", tmp_path / "photos", "--home", tmp_path / "home", "--model", "starter"]
        done = subprocess.run(
            [sys.executable, "-c", program, *words, *options],
            env=environment,
            capture_output=True,
            check=True,
        )
        loaded = json.loads(done.stderr.splitlines()[-1])
        return [
            name for name in loaded if re.match(r"mmsearch\.(enrichers|maintenance\.desc)", name)
        ]

    run()
    assert run() == []
    assert "mmsearch.maintenance.describe" in run("--describe", "tags")
