"""Jobs of a server that ends."""

import pytest

from mmsearch.core.errors import BusyError
from mmsearch.core.records import Root
from mmsearch.server.jobs import Jobs


def test_no_job_begins_after_the_end():
    jobs = Jobs(lambda name: pytest.fail("it is opened"))
    jobs.close()
    with pytest.raises(BusyError, match="shutting down"):
        jobs.start("a", Root(1, "photos", b"/photos"))
    assert jobs.list_for_index("a") == []
