"""``mmsearch index``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmsearch import api
from mmsearch.cli.errors import EXIT_INTERRUPTED, EXIT_SKIPPED
from mmsearch.cli.options import (
    AsJson,
    Device,
    Exclude,
    Hidden,
    Home,
    Include,
    IndexName,
    Verbose,
    WaitSeconds,
    check_device,
)
from mmsearch.cli.output import (
    count_changes,
    format_counts,
    human_bytes,
    print_json,
    print_line,
    warn,
    warn_list,
)
from mmsearch.cli.progress import show_progress
from mmsearch.core.display import display_path
from mmsearch.core.errors import UnknownIndexError, UsageError
from mmsearch.core.globs import resolve_globs
from mmsearch.core.reports import format_skipped
from mmsearch.core.settings import load_settings

if TYPE_CHECKING:
    from mmsearch.core.reports import IndexReport
    from mmsearch.core.results import IndexStatus


def index(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder of pictures; or a zip or tar, a table of paths or URLs, a data set, or "
            "what fsspec opens, such as s3://bucket/pictures.",
            show_default=False,
        ),
    ],
    name: IndexName = "default",
    home: Home = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Encoder for a new index: auto, starter, open_clip:ARCH/TAG, open_clip:ARCH@FILE.",
            show_default="auto",
        ),
    ] = None,
    device: Device = None,
    include: Include = None,
    exclude: Exclude = None,
    follow_symlinks: Annotated[
        bool, typer.Option("--follow-symlinks", help="Follow symbolic links to files and folders.")
    ] = False,
    hidden: Hidden = False,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            help="Reject pictures with more pixels without decoding them.",
            min=1,
            show_default="300000000",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of decoder processes; 0: one per processor.", min=0, show_default="0"
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry unchanged files that failed before.")
    ] = False,
    allow_empty: Annotated[
        bool,
        typer.Option("--allow-empty", help="Accept an empty folder that had pictures before."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Read every file, to find changes that kept its size and times."
        ),
    ] = False,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Table of captions: .csv, .tsv, .json, .jsonl or .parquet with columns path, "
            "caption. If given again, it replaces its earlier version.",
            metavar="FILE",
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="Kinds of texts to encode: some of sidecar,metadata,table,filename; or none.",
            metavar="KINDS",
            show_default="sidecar,metadata,table",
        ),
    ] = None,
    fusion: Annotated[
        str | None,
        typer.Option(
            help="Fusion for a new index: image, weighted, concat or attention.",
            metavar="NAME",
            show_default="image",
        ),
    ] = None,
    text_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of texts in the fused vectors of a new index, 0 to 1.",
            metavar="X",
            show_default="0.3",
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Kind of a source that is not a folder: archive, table, remote or dataset.",
            show_default="by its name",
        ),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(
            help="Choice of a source that is not a folder, such as url_column=url; repeatable. The "
            "index keeps it for later runs.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Index a folder of pictures or another source, or update its index.

    Unchanged pictures are not read again; interrupted work continues where it stopped.

    Example: mmsearch index ./photos --exclude 'drafts/'
    """
    add = _plan(
        source,
        kind,
        choice or (),
        include=resolve_globs(include or ()),
        exclude=resolve_globs(exclude or ()),
        follow_symlinks=follow_symlinks,
        hidden=hidden,
        allow_empty=allow_empty,
        verify=verify,
        captions=captions,
        texts=texts,
    )
    settings = load_settings().with_flags(
        max_pixels=max_pixels, workers=workers, fusion=fusion, text_weight=text_weight
    )
    with (
        api.open_index(
            name,
            home=home,
            model=model,
            device=check_device(device),
            settings=settings,
            on_message=warn,
        ) as target,
        show_progress() as progress,
    ):
        _check_fusion_unchanged(target, fusion, text_weight)
        try:
            report = add(target, retry_failed=retry_failed, wait_s=wait, progress=progress)
        except KeyboardInterrupt:
            _report_interrupted(target)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        status = target.status()
    if as_json:
        print_json({"index": target.name, "pictures": status.pictures, "report": report})
    else:
        print_line(_format_summary(report, source, target.name, status.pictures))
        _print_skipped(report)
        _suggest_better_model(report, status)
        if verify:
            print_line(
                f"All files were read: {report.unnoticed:,} had changed unnoticed, with the same"
                " size and time."
            )
    if verbose:
        _print_encoder(status)
    if report.captions is not None:
        is_useless = report.captions.rows and not report.captions.matched
        for sentence in report.captions.describe():
            if is_useless:
                warn(sentence)
            elif not as_json:
                print_line(sentence)
    _warn_failures(report)
    if report.failed or report.unreadable_folders or report.unreadable_texts:
        raise typer.Exit(EXIT_SKIPPED)


def _plan(
    source: str, kind: str | None, choice: Sequence[str], **folder_options: Any
) -> Callable[..., IndexReport]:
    """Return the method that indexes a source, with its options; it takes the index first.

    Raises:
        UsageError: An option does not apply to the source.
    """
    if kind is None and api.is_folder(source):
        if choice:
            raise UsageError(
                "--choice does not apply to a folder.",
                "Leave it out, or name the --kind of the source.",
            )
        return partial(api.Index.add_folder, folder=source, **folder_options)
    for name, value in folder_options.items():
        if value:
            raise UsageError(
                f"--{name.replace('_', '-')} applies to folders only.",
                "Leave it out for this source.",
            )
    choices = api.parse_choices(source, kind, choice)
    return partial(api.Index.add_source, uri=source, kind=kind, **choices)


def _print_encoder(status: IndexStatus) -> None:
    if status.identity is not None:
        encoder = status.identity.encoder
        warn(
            f"Encoder {encoder.name}, fingerprint {encoder.fingerprint}; generation "
            f"{status.generation}."
        )


def _suggest_better_model(report: IndexReport, status: IndexStatus) -> None:
    """Name the command that gets or uses a better model, if `starter` encoded pictures."""
    if not report.encoded or status.identity is None or status.identity.encoder.name != "starter":
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


def _check_fusion_unchanged(
    target: api.Index, fusion: str | None, text_weight: float | None
) -> None:
    """Raise an error if the options differ from the index's fusion, which stays as it is."""
    # An index of an older schema cannot be read before a writer upgrades it.
    is_requested = fusion is not None or text_weight is not None
    identity = target.status().identity if is_requested and target.exists() else None
    if identity is None:
        return
    current = identity.fusion
    is_unchanged = fusion in (None, current.name) and text_weight in (None, current.text_weight)
    if not is_unchanged:
        raise UsageError(
            f"Index {target.name!r} uses fusion {current.name!r} with a text weight of "
            f"{current.text_weight:g}.",
            "Change that with: mmsearch reindex --fusion NAME --text-weight X",
        )


def _report_interrupted(target: api.Index) -> None:
    try:
        picture_count = target.status().pictures
    except UnknownIndexError:
        picture_count = 0
    warn(
        f"Interrupted: {picture_count:,} pictures are in index {target.name!r}; "
        "run the same command again to continue."
    )


def _print_skipped(report: IndexReport) -> None:
    skipped = format_skipped(report.skipped)
    if skipped:
        print_line(f"{skipped}.")
    installable = sorted({count.reason for count in report.skipped if count.is_installable})
    if installable and not any(report.counts().values()):
        warn(f"From your clone of mmsearch, run: pip {' && pip '.join(installable)}")


def _format_summary(report: IndexReport, source: str, name: str, pictures: int) -> str:
    counts_text = format_counts(count_changes(report))
    if not counts_text:
        found = "that can be read " if any(c.is_installable for c in report.skipped) else ""
        return f"No pictures {found}were found below {display_path(source)}."
    speed = f" ({report.encoded / report.seconds:.1f} pictures/s)" if report.encoded else ""
    return (
        f"{counts_text} in {report.seconds:.1f} s{speed}. "
        f"Index {name!r} holds {pictures:,} pictures."
    )


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
