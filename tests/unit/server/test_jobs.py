"""Tests of the jobs of a server that shuts down."""

import pytest

from mmsearch.core.errors import BusyError
from mmsearch.core.records import Root
from mmsearch.server.jobs import Jobs


def test_jobs_start_after_close_raises_busy_error():
    jobs = Jobs(lambda name: pytest.fail("it is opened"))
    jobs.close()
    with pytest.raises(BusyError, match="shutting down"):
        jobs.start("a", Root(1, "photos", b"/photos"))
    assert jobs.list_for_index("a") == []
