import math

import pytest

from mmsearch.core.errors import UsageError
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock


def test_writer_lock_nan_wait_raises_usage_error(tmp_path):
    layout = IndexLayout(tmp_path)
    with (
        pytest.raises(UsageError, match=r"^The time to wait for another writer is nan\."),
        writer_lock(layout, math.nan),
    ):
        pass
