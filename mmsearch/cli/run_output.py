"""Output of indexing runs: what became of the files of each source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import typer

from mmsearch import api
from mmsearch.cli.errors import EXIT_SKIPPED
from mmsearch.cli.output import (
    count_changes,
    format_counts,
    human_bytes,
    print_json,
    print_line,
    warn,
    warn_list,
)
from mmsearch.core.display import display_path
from mmsearch.core.errors import MMSearchError
from mmsearch.core.reports import DescribeReport, IndexReport, format_skipped
from mmsearch.core.results import IndexStatus

ARCHIVE = "archive"
"""The reason not to read an archive in a folder."""

Outcomes = Mapping[str, IndexReport | MMSearchError]
"""The report of each source, or the error of one that could not be read."""


def print_outcomes(
    name: str,
    status: IndexStatus,
    outcomes: Outcomes,
    *,
    is_only: bool = False,
    as_json: bool = False,
    verify: bool = False,
) -> None:
    """Print what became of the files of each source.

    Args:
        name: Name of the index.
        status: Its status after the runs.
        outcomes: The outcomes by name or place of the source.
        is_only: True if one source was named, which has no error then.
        as_json: True for JSON.
        verify: True if all files were read.
    """
    if as_json:
        _print_json(name, status, outcomes, is_only=is_only)
    for source, outcome in outcomes.items():
        if isinstance(outcome, MMSearchError):
            warn(f"{display_path(source)}: {display_path(outcome.command_text)}")
            continue
        if not as_json:
            line = _format_counts(outcome, source)
            holds = f" Index {name!r} holds {status.pictures:,} pictures."
            ending = holds if is_only and any(outcome.counts().values()) else ""
            print_line(line + ending if is_only else f"{source}: {line}")
            _print_skipped(outcome)
            if verify:
                print_line(
                    f"All files were read: {outcome.unnoticed:,} had changed unnoticed, with the"
                    " same size and time."
                )
        _print_captions(outcome, as_json=as_json)
        _warn_failures(outcome)
        print_described(outcome, as_json=as_json)
    if not as_json:
        if not is_only:
            print_line(f"Index {name!r} holds {status.pictures:,} pictures.")
        _suggest_better_model(_reports(outcomes), status)


def raise_exit(outcomes: Outcomes) -> None:
    """End the command with the code for a source or a file that could not be read."""
    for outcome in outcomes.values():
        if isinstance(outcome, MMSearchError):
            raise typer.Exit(outcome.exit_code)
    if any(r.failed or r.unreadable_folders or r.unreadable_texts for r in _reports(outcomes)):
        raise typer.Exit(EXIT_SKIPPED)


def print_described(report: IndexReport, *, as_json: bool = False) -> None:
    """Print what enrichers did after a run; with JSON, their errors only."""
    for work in report.described:
        if work.error is not None:
            warn(f"{work.enricher}: {display_path(work.error)} {work.left:,} are left.")
        elif not as_json and (work.described or work.failed):
            for line in format_described(work):
                print_line(line)


def format_described(report: DescribeReport) -> Iterator[str]:
    """Yield lines about the work of an enricher."""
    contents = "films and sounds" if report.enricher == "speech" else "pictures"
    if not report.described and not report.failed:
        yield f"{report.enricher}: nothing to do."
    else:
        yield (
            f"{report.enricher}: {report.texts:,} texts of {report.described:,} {contents} in"
            f" {report.seconds:.1f} s."
        )
    for reason, count in Counter(file.reason for file in report.notes).items():
        yield f"{count:,}: {reason}."
    if report.failed:
        yield f"{len(report.failed):,} could not be read; --retry-failed tries them again."
    if report.left:
        yield f"{report.left:,} are left: their files are missing or have changed."


def _reports(outcomes: Outcomes) -> list[IndexReport]:
    return [outcome for outcome in outcomes.values() if isinstance(outcome, IndexReport)]


def _print_json(name: str, status: IndexStatus, outcomes: Outcomes, *, is_only: bool) -> None:
    index = {"index": name, "pictures": status.pictures}
    if is_only:
        (report,) = outcomes.values()
        print_json({**index, "report": report})
        return
    sources = [
        {"source": source, "error": outcome.command_text}
        if isinstance(outcome, MMSearchError)
        else {"source": source, "report": outcome}
        for source, outcome in outcomes.items()
    ]
    print_json({**index, "sources": sources})


def _suggest_better_model(reports: Sequence[IndexReport], status: IndexStatus) -> None:
    """Name the command that gets or uses a better model, if `starter` encoded pictures."""
    if (
        not any(report.encoded for report in reports)
        or status.identity is None
        or status.identity.encoder.name != "starter"
    ):
        return
    better = api.find_pullable_model()
    if better.compiled:
        options = "" if status.name == "default" else f" --index {status.name}"
        warn(f"Much better search: mmsearch reindex --model {better.name}{options}")
    else:
        size = human_bytes(better.download_bytes or 0)
        warn(
            "Much better search, also in other languages: mmsearch models pull "
            f"({size}, {better.licence})"
        )


def _print_skipped(report: IndexReport) -> None:
    skipped = format_skipped(report.skipped)
    if skipped:
        print_line(f"{skipped}.")
    is_empty = not any(report.counts().values())
    if is_empty and any(count.reason == ARCHIVE for count in report.skipped):
        warn("Archives are sources of their own; name them: mmsearch index FILE...")
    installable = sorted({count.reason for count in report.skipped if count.is_installable})
    if installable and is_empty:
        warn(f"From your clone of mmsearch, run: pip {' && pip '.join(installable)}")


def _format_counts(report: IndexReport, source: str) -> str:
    counts_text = format_counts(count_changes(report))
    if not counts_text:
        found = "that can be read " if any(c.is_installable for c in report.skipped) else ""
        return f"No pictures {found}were found below {display_path(source)}."
    speed = f" ({report.encoded / report.seconds:.1f} pictures/s)" if report.encoded else ""
    return f"{counts_text} in {report.seconds:.1f} s{speed}."


def _print_captions(report: IndexReport, *, as_json: bool) -> None:
    if report.captions is None:
        return
    is_useless = report.captions.rows and not report.captions.matched
    for sentence in report.captions.describe():
        if is_useless:
            warn(sentence)
        elif not as_json:
            print_line(sentence)


def _warn_failures(report: IndexReport) -> None:
    for label, files in (
        ("could not be read", report.failed),
        ("folders could not be listed", report.unreadable_folders),
        ("text files could not be read", report.unreadable_texts),
    ):
        warn_list(
            f"{len(files):,} {label}:",
            [f"{display_path(file.path)}: {file.reason}" for file in files],
            "'mmsearch status --failures' lists all.",
        )
