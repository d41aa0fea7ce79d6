"""``mmsearch watch``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmsearch.cli.errors import EXIT_INTERRUPTED
from mmsearch.cli.options import (
    Device,
    Exclude,
    Hidden,
    Home,
    Include,
    IndexName,
    open_index,
)
from mmsearch.cli.output import count_changes, format_counts, warn
from mmsearch.cli.run_output import print_described
from mmsearch.cli.streams import has_failed
from mmsearch.core.display import display_path
from mmsearch.core.globs import resolve_globs
from mmsearch.core.reports import format_skipped

UNCHANGED_COUNTS = frozenset({"unchanged", "unreadable as before"})


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    model: Annotated[
        str | None, typer.Option(help="Encoder for a new index.", show_default="auto")
    ] = None,
    device: Device = None,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = None,
    settle: Annotated[
        float,
        typer.Option(
            help="Index a file once it has not changed for this long.", metavar="SECONDS", min=0
        ),
    ] = 2.0,
    poll: Annotated[
        bool,
        typer.Option(
            "--poll", help="Poll for changes, for network drives that do not report them."
        ),
    ] = False,
) -> None:
    """Keep an index up to date with a folder until interrupted.

    If a drive is unplugged, the command waits for it and keeps its pictures in the index.

    Example: mmsearch watch ~/Pictures
    """
    with open_index(name, home, model=model, device=device) as index:
        try:
            is_first, shown_skipped = True, ""
            for report in index.watch(
                folder,
                include=None if include is None else resolve_globs(include),
                exclude=None if exclude is None else resolve_globs(exclude),
                hidden=hidden,
                settle_s=settle,
                poll=poll,
            ):
                counts = count_changes(report)
                counts_text = format_counts(
                    {label: counts[label] for label in counts if label not in UNCHANGED_COUNTS}
                )
                if counts_text or is_first:
                    sys.stdout.write(f"{counts_text or 'up to date'}, in {report.seconds:.1f} s\n")
                    sys.stdout.flush()
                skipped = format_skipped(report.skipped)
                if skipped != shown_skipped:
                    sys.stdout.write(f"{display_path(skipped) or 'every file is read'}\n")
                    sys.stdout.flush()
                    shown_skipped = skipped
                for file in report.failed:
                    warn(f"  {display_path(file.path)}: {file.reason}")
                print_described(report)
                sys.stdout.flush()
                is_first = False
                if has_failed(sys.stdout):
                    break
        except KeyboardInterrupt:
            warn(f"Stopped watching {display_path(folder)}.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
