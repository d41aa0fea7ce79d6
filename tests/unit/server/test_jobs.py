"""Tests of the jobs of a server that shuts down."""

import pytest

from mmsearch.core.errors import BusyError
from mmsearch.core.records import Root
from mmsearch.core.reports import IndexReport, SkippedCount
from mmsearch.server.jobs import WRITER_WAIT_S, Jobs


class IndexSpy:
    """Index that records how a folder is added."""

    name = "a"
    calls = ()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add_folder(self, folder, *, progress, **options):
        self.calls += ((folder, options),)
        skipped = (SkippedCount("MOV", "video", 2), SkippedCount("hidden files", "hidden", 1))
        return IndexReport(0, 0, 0, 0, 0, 0, (), 0, (), 0.0, 0, skipped=skipped, unnoticed=4)


def test_job_passes_its_options_to_the_index():
    spy = IndexSpy()
    jobs = Jobs(lambda name: spy)
    job = jobs.start("a", Root(1, "photos", b"/photos"), verify=True)
    job.wait()
    report = job.status().report
    assert (report["skipped"], report["unnoticed"], report["added"]) == (3, 4, 0)
    jobs.start("a", Root(1, "photos", b"/photos"), retry_failed=True).wait()
    assert spy.calls == (
        (b"/photos", {"retry_failed": False, "verify": True, "wait_s": WRITER_WAIT_S}),
        (b"/photos", {"retry_failed": True, "verify": False, "wait_s": WRITER_WAIT_S}),
    )


def test_jobs_start_after_close_raises_busy_error():
    jobs = Jobs(lambda name: pytest.fail("it is opened"))
    jobs.close()
    with pytest.raises(BusyError, match="shutting down"):
        jobs.start("a", Root(1, "photos", b"/photos"))
    assert jobs.list_for_index("a") == []
