"""Tests of the jobs of a server that shuts down."""

import pytest

from mmsearch.core.errors import BusyError, SourceError
from mmsearch.core.reports import IndexReport, SkippedCount
from mmsearch.server.jobs import WRITER_WAIT_S, Jobs


class IndexSpy:
    """Index that records how its sources are refreshed.

    Args:
        outcomes: What became of each source.
    """

    name = "a"
    calls = ()

    def __init__(self, **outcomes):
        self.outcomes = outcomes

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def refresh(self, names, *, progress, **options):
        self.calls += ((names, options),)
        return self.outcomes


def report(added=0):
    skipped = (SkippedCount("MOV", "video", 2), SkippedCount("hidden files", "hidden", 1))
    return IndexReport(added, 0, 0, 0, 0, 0, (), 0, (), 0.0, 0, skipped=skipped, unnoticed=4)


def test_job_passes_its_options_to_the_index():
    spy = IndexSpy(photos=report())
    jobs = Jobs(lambda name: spy)
    job = jobs.start("a", "photos", verify=True)
    job.wait()
    counts = job.status().report
    assert (counts["skipped"], counts["unnoticed"], counts["added"]) == (3, 4, 0)
    jobs.start("a", retry_failed=True).wait()
    assert spy.calls == (
        ("photos", {"retry_failed": False, "verify": True, "wait_s": WRITER_WAIT_S}),
        ((), {"retry_failed": True, "verify": False, "wait_s": WRITER_WAIT_S}),
    )


def test_job_over_all_sources_adds_up_and_names_those_that_cannot_be_read():
    spy = IndexSpy(a=report(2), b=SourceError("B is away.", "Wait."), c=report(3))
    job = Jobs(lambda name: spy).start("a")
    job.wait()
    status = job.status()
    assert (status.state, status.source, status.error) == ("finished", None, None)
    assert (status.report["added"], status.report["skipped"]) == (5, 6)
    assert status.source_errors == {"b": "B is away. Wait."}


def test_job_whose_only_source_cannot_be_read_fails():
    job = Jobs(lambda name: IndexSpy(b=SourceError("B is away.", "Wait."))).start("a", "b")
    job.wait()
    status = job.status()
    assert (status.state, status.report, status.error) == ("failed", None, "B is away. Wait.")
    assert status.source_errors == {}


def test_jobs_start_after_close_raises_busy_error():
    jobs = Jobs(lambda name: pytest.fail("it is opened"))
    jobs.close()
    with pytest.raises(BusyError, match="shutting down"):
        jobs.start("a", "photos")
    assert jobs.list_for_index("a") == []
