"""Lines of `mmsearch index` about files that it did not read."""

from mmsearch.cli import index
from mmsearch.core.reports import IndexReport, SkippedCount


def report(*skipped, added=0):
    return IndexReport(added, 0, 0, 0, 0, 0, (), 0, (), 0.0, 0, skipped=skipped)


RAW = SkippedCount("CR2", "install '.[raw]'", 9)


def test_folder_of_raw_files_alone_says_what_to_install(capsys):
    assert index._format_summary(report(RAW), "x", "default", 0) == (
        "No pictures that can be read were found below x."
    )
    index._print_skipped(report(RAW))
    printed = capsys.readouterr()
    assert printed.out == "9 not read: 9 CR2 (install '.[raw]').\n"
    assert printed.err == "From your clone of mmsearch, run: pip install '.[raw]'\n"


def test_pictures_among_raw_files_are_not_nagged_about(capsys):
    index._print_skipped(report(RAW, added=1))
    printed = capsys.readouterr()
    assert printed.out == "9 not read: 9 CR2 (install '.[raw]').\n"
    assert printed.err == ""


def test_folder_without_other_files_prints_nothing_more(capsys):
    index._print_skipped(report())
    assert capsys.readouterr().out == ""
    assert index._format_summary(report(), "x", "default", 0) == "No pictures were found below x."
