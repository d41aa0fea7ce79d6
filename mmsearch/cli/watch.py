"""``mmsearch watch``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mmsearch.cli.errors import INTERRUPTED
from mmsearch.cli.options import (
    Device,
    Exclude,
    Hidden,
    Home,
    Include,
    IndexName,
    open_index,
)
from mmsearch.cli.output import counts_of, in_words, warn
from mmsearch.cli.streams import is_lost
from mmsearch.core.display import display_path

AS_BEFORE = frozenset({"unchanged", "skipped before"})


def watch(
    folder: Annotated[Path, typer.Argument(help="Folder of pictures.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    model: Annotated[
        str | None, typer.Option(help="Encoder of a new index.", show_default="auto")
    ] = None,
    device: Device = None,
    include: Include = None,
    exclude: Exclude = None,
    hidden: Hidden = False,
    settle: Annotated[
        float,
        typer.Option(
            help="Index a file when it has not changed for so long.", metavar="SECONDS", min=0
        ),
    ] = 2.0,
    poll: Annotated[
        bool,
        typer.Option("--poll", help="For network drives, which do not report what changes."),
    ] = False,
) -> None:
    """Keep an index up to date with a folder until it is interrupted.

    A drive that is unplugged is waited for; its pictures are not forgotten.

    Example: mmsearch watch ~/Pictures
    """
    with open_index(name, home, model=model, device=device) as index:
        try:
            first = True
            for report in index.watch(
                folder,
                include=include or (),
                exclude=exclude or (),
                hidden=hidden,
                settle_s=settle,
                poll=poll,
            ):
                counts = counts_of(report)
                did = in_words({what: counts[what] for what in counts if what not in AS_BEFORE})
                if did or first:
                    sys.stdout.write(f"{did or 'up to date'}, in {report.seconds:.1f} s\n")
                    sys.stdout.flush()
                for file in report.failed:
                    warn(f"  {display_path(file.path)}: {file.reason}")
                first = False
                if is_lost(sys.stdout):
                    break
        except KeyboardInterrupt:
            warn(f"Stopped watching {display_path(folder)}.")
            raise typer.Exit(INTERRUPTED) from None
