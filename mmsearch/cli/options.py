"""Options shared by several commands, and a function to open the index they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch import api
from mmsearch.cli.fast_args import DEVICES
from mmsearch.cli.output import warn

IndexName = Annotated[str, typer.Option("--index", help="Name of the index.", metavar="NAME")]
Home = Annotated[
    Path | None,
    typer.Option(help="Folder of the indexes.", metavar="FOLDER", show_default=False),
]
Device = Annotated[
    str | None,
    typer.Option(help="auto, cuda, mps or cpu.", metavar="DEVICE", show_default="auto"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print details such as the model and the generation."),
]
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

Mode = Annotated[
    str | None,
    typer.Option(
        help="Search mode: vector (image content), text (words in texts) or hybrid (both).",
        metavar="MODE",
        show_default="hybrid if there are texts",
    ),
]
PathGlob = Annotated[
    list[str] | None,
    typer.Option("--path", help="Only pictures whose path matches GLOB.", metavar="GLOB"),
]
After = Annotated[
    str | None, typer.Option(help="Only pictures of this date or later.", metavar="DATE")
]
Before = Annotated[
    str | None, typer.Option(help="Only pictures from before this date.", metavar="DATE")
]
MinWidth = Annotated[
    int | None, typer.Option(help="Only pictures at least this wide.", metavar="PIXELS")
]
MinHeight = Annotated[
    int | None, typer.Option(help="Only pictures at least this high.", metavar="PIXELS")
]
Orientation = Annotated[
    str | None, typer.Option(help="landscape, portrait or square.", metavar="ORIENTATION")
]
Format = Annotated[
    list[str] | None,
    typer.Option("--format", help="Only files of this format, such as png.", metavar="FORMAT"),
]
Camera = Annotated[
    list[str] | None,
    typer.Option(help="Only pictures of cameras whose name contains TEXT.", metavar="TEXT"),
]
Near = Annotated[
    str | None,
    typer.Option(help="Only pictures taken within KM of a place.", metavar="LAT,LON,KM"),
]
Tag = Annotated[
    list[str] | None, typer.Option(help="Only pictures with this keyword.", metavar="WORD")
]
Where = Annotated[
    str | None,
    typer.Option(
        help='Only pictures that meet a condition, such as "width > 1000".',
        metavar="CONDITION",
    ),
]


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
