"""Options shared by several commands, and a function to open the index they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmsearch import api
from mmsearch.cli.fast_args import DEVICES, options_of
from mmsearch.cli.output import warn


def typer_option(name: str) -> Any:
    """Return an option of ``query`` for typer."""
    option = options_of("query")[name]
    return typer.Option(
        *option.flags, help=option.help, metavar=option.metavar, show_default=option.show_default
    )


IndexName = Annotated[str, typer_option("name")]
Home = Annotated[Path | None, typer_option("home")]
Device = Annotated[str | None, typer_option("device")]
AsJson = Annotated[bool, typer_option("as_json")]
Verbose = Annotated[bool, typer_option("verbose")]
Mode = Annotated[str | None, typer_option("mode")]
WaitSeconds = Annotated[
    float,
    typer.Option("--wait", help="Seconds to wait for another writer.", metavar="SECONDS"),
]

Include = Annotated[
    list[str] | None, typer.Option(help="Index only files that match GLOB.", metavar="GLOB")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Leave out files and folders that match GLOB.", metavar="GLOB"),
]
Hidden = Annotated[bool, typer.Option("--hidden", help="Index hidden files too.")]


def open_index(
    name: str, home: Path | None, *, model: str | None = None, device: str | None = None
) -> api.Index:
    """Open the index that the options name; slow one-time work is reported on stderr."""
    return api.open_index(
        name, home=home, model=model, device=check_device(device), on_message=warn
    )


def check_device(device: str | None) -> str | None:
    """Return the device if its name is valid, or raise BadParameter."""
    if device is not None and device not in DEVICES:
        raise typer.BadParameter(
            f"must be {', '.join(DEVICES[:-1])} or {DEVICES[-1]}, got {device!r}",
            param_hint="--device",
        )
    return device
