"""``mmsearch index`` upgrades an index of an older schema: nothing reads it before a writer has."""

from types import SimpleNamespace

import pytest

from mmsearch.cli.index import _check_fusion_unchanged
from mmsearch.core.errors import SchemaError


def raise_schema_error():
    raise SchemaError("schema 7, of an older mmsearch")


OLD_SCHEMA_INDEX = SimpleNamespace(name="old", exists=lambda: True, status=raise_schema_error)


def test_an_older_schema_is_not_read_unless_a_fusion_is_asked_for():
    _check_fusion_unchanged(OLD_SCHEMA_INDEX, None, None)
    with pytest.raises(SchemaError):
        _check_fusion_unchanged(OLD_SCHEMA_INDEX, "image", None)
