"""Tests of ``mmsearch index`` on an older schema: only a writer reads it before the upgrade."""

from types import SimpleNamespace

import pytest

from mmsearch.cli.index import _check_fusion_unchanged
from mmsearch.core.errors import SchemaError


def raise_schema_error():
    raise SchemaError("schema 7, of an older mmsearch")


OLD_SCHEMA_INDEX = SimpleNamespace(name="old", exists=lambda: True, status=raise_schema_error)


def test_check_fusion_old_schema_raises_only_if_fusion_is_given():
    _check_fusion_unchanged(OLD_SCHEMA_INDEX, None, None)
    with pytest.raises(SchemaError):
        _check_fusion_unchanged(OLD_SCHEMA_INDEX, "image", None)
