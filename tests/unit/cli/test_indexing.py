"""What ``mmsearch index`` looks at before it opens an index for writing."""

import pytest

from mmsearch.cli.indexing import _refuse_other_fusion
from mmsearch.core.errors import SchemaError


class OlderIndex:
    """An index whose catalog only a writer can upgrade."""

    def exists(self):
        return True

    def status(self):
        raise SchemaError("It has an older schema.")


def test_an_index_of_an_older_mmsearch_is_left_to_the_writer():
    _refuse_other_fusion(OlderIndex(), None, None)
    with pytest.raises(SchemaError):
        _refuse_other_fusion(OlderIndex(), "weighted", None)
