"""Lines of `mmsearch index` about files that it did not read."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from mmsearch.cli import run_output
from mmsearch.core.reports import IndexReport, SkippedCount
from mmsearch.core.types import ModelInfo


def report(*skipped, added=0):
    return IndexReport(added, 0, 0, 0, 0, 0, (), 0, (), 0.0, 0, skipped=skipped)


RAW = SkippedCount("CR2", "install '.[raw]'", 9)


def test_folder_of_raw_files_alone_says_what_to_install(capsys):
    assert run_output._format_counts(report(RAW), "x") == (
        "No pictures that can be read were found below x."
    )
    run_output._print_skipped(report(RAW))
    printed = capsys.readouterr()
    assert printed.out == "9 not read: 9 CR2 (install '.[raw]').\n"
    assert printed.err == "From your clone of mmsearch, run: pip install '.[raw]'\n"


def test_folder_of_archives_alone_says_how_to_index_them(capsys):
    tars = SkippedCount("TAR", "archive", 4)
    run_output._print_skipped(report(tars))
    printed = capsys.readouterr()
    assert printed.out == "4 not read: 4 TAR (archive).\n"
    assert printed.err == "Archives are sources of their own; name them: mmsearch index FILE...\n"
    run_output._print_skipped(report(tars, added=1))
    assert capsys.readouterr().err == ""


def test_pictures_among_raw_files_are_not_nagged_about(capsys):
    run_output._print_skipped(report(RAW, added=1))
    printed = capsys.readouterr()
    assert printed.out == "9 not read: 9 CR2 (install '.[raw]').\n"
    assert printed.err == ""


def test_folder_without_other_files_prints_nothing_more(capsys):
    run_output._print_skipped(report())
    assert capsys.readouterr().out == ""
    assert run_output._format_counts(report(), "x") == "No pictures were found below x."


@pytest.fixture
def suggest(monkeypatch, capsys):
    """Return what a run suggests, by its model, its number of encoded pictures and a pulled one."""

    def suggest(model="starter", encoded=3, pulled=False, name="default"):
        better = ModelInfo("open_clip:B/x", "", 4, False, pulled, "MIT", "English", 605_000_000)
        monkeypatch.setattr("mmsearch.api.find_pullable_model", lambda: better)
        status = SimpleNamespace(
            identity=SimpleNamespace(encoder=SimpleNamespace(name=model)), name=name
        )
        run_output._suggest_better_model([replace(report(), encoded=encoded)], status)
        printed = capsys.readouterr()
        assert printed.out == ""
        return printed.err

    return suggest


def test_run_with_the_built_in_model_names_a_better_one_with_size_and_licence(suggest):
    assert suggest() == (
        "Much better search, also in other languages: mmsearch models pull (605.0 MB, MIT)\n"
    )


def test_run_beside_a_pulled_model_names_the_command_that_uses_it(suggest):
    assert suggest(pulled=True) == "Much better search: mmsearch reindex --model open_clip:B/x\n"
    assert suggest(pulled=True, name="old").endswith("--model open_clip:B/x --index old\n")


def test_run_that_encoded_nothing_or_has_another_model_suggests_nothing(suggest):
    assert suggest(encoded=0) == ""
    assert suggest(model="open_clip:ViT-B-32/openai") == ""
