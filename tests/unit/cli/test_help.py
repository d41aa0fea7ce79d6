"""Tests of the --help output: it does not depend on the version of typer."""

import re

import pytest
from typer.testing import CliRunner

from mmsearch.cli.app import app


@pytest.mark.parametrize("verb", ["query", "similar", "index", "reindex"])
def test_help_shows_option_names_in_lower_case(verb):
    shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "120"}).output
    options = re.findall(r"--[A-Za-z][A-Za-z-]*", shown)
    assert options
    assert [option for option in options if option != option.lower()] == []
