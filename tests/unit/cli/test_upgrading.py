"""``mmsearch index`` upgrades an index of an older schema: nothing reads it before a writer has."""

from types import SimpleNamespace

import pytest

from mmsearch.cli.index import _refuse_other_fusion
from mmsearch.core.errors import SchemaError


def refuse():
    raise SchemaError("schema 7, of an older mmsearch")


OLD = SimpleNamespace(name="old", exists=lambda: True, status=refuse)


def test_an_older_schema_is_not_read_unless_a_fusion_is_asked_for():
    _refuse_other_fusion(OLD, None, None)
    with pytest.raises(SchemaError):
        _refuse_other_fusion(OLD, "image", None)
