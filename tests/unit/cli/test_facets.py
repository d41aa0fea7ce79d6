"""Options that narrow a search to a value, as ``mmsearch facets`` prints them."""

import pytest

from mmsearch.cli.facets import _format_options


@pytest.mark.parametrize(
    ("narrowing", "line"),
    [
        ({"after": "2019", "before": "2020"}, "--after 2019 --before 2020"),
        ({"person": ["=Anna", "=Bert B"]}, "--person '=Anna' --person '=Bert B'"),
        ({"auto_tag": ["dog's"]}, """--auto-tag 'dog'"'"'s'"""),
        ({"where": "kind == 'video'"}, """--where 'kind == '"'"'video'"'"''"""),
        (None, ""),
    ],
)
def test_options_of_a_value_are_words_of_every_shell(narrowing, line):
    assert _format_options(narrowing) == line
