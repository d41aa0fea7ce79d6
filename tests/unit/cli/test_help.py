"""What --help says does not depend on the version of typer."""

import re

import pytest
from typer.testing import CliRunner

from mmsearch.cli.app import app


@pytest.mark.parametrize("verb", ["query", "similar", "index", "reindex"])
def test_options_are_shown_as_they_are_written(verb):
    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "120"}).output
    options = re.findall(r"--[A-Za-z][A-Za-z-]*", shown)
    assert options
    assert [option for option in options if option != option.lower()] == []
