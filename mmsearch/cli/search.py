"""``mmsearch query`` and ``mmsearch similar``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from mmsearch.cli.fast_args import rewrite_negative_terms
from mmsearch.cli.options import (
    After,
    AsJson,
    Before,
    Camera,
    Device,
    Format,
    Home,
    IndexName,
    MinHeight,
    MinWidth,
    Mode,
    Near,
    Orientation,
    PathGlob,
    Tag,
    Verbose,
    Where,
    check_device,
)

TopK = Annotated[int, typer.Option("-k", help="Maximum number of hits.", metavar="N")]
MinScore = Annotated[
    float | None,
    typer.Option(help="Leave out hits with a lower score.", metavar="X"),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(help="Leave out hits with a lower confidence, 0 to 1.", metavar="P"),
]
PathsOnly = Annotated[
    bool,
    typer.Option(
        "--paths",
        help="Print only absolute paths, one per line; escaped on a terminal, exact in a pipe.",
    ),
]
Print0 = Annotated[
    bool, typer.Option("--print0", "-0", help="Print only absolute paths, each followed by NUL.")
]
ContactSheet = Annotated[
    Path | None,
    typer.Option(help="Write a contact sheet of the hits: .png, .jpg or .html.", metavar="FILE"),
]
OpenViewer = Annotated[
    bool, typer.Option("--open", help="Open the sheet, or else the best hit, in a viewer.")
]


class QueryCommand(TyperCommand):
    """A command whose arguments may be negative terms: ``street -people``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse arguments after rewriting ``-people`` as ``--not=people``."""
        return super().parse_args(ctx, rewrite_negative_terms(args))


def query(
    text: Annotated[
        list[str] | None,
        typer.Argument(help="Description in the query language.", show_default=False),
    ] = None,
    k: TopK = 10,
    name: IndexName = "default",
    home: Home = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--not", help="Rank pictures like TEXT lower (same as -WORD).", metavar="TEXT"
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Picture that the hits should look like.", metavar="FILE"),
    ] = None,
    mode: Mode = None,
    blend: Annotated[
        str | None,
        typer.Option(
            help="How vector and text results are combined: weighted_sum or reciprocal_rank.",
            metavar="NAME",
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help='Template for the description, such as "a photo of {}".', metavar="TEXT"),
    ] = None,
    path: PathGlob = None,
    after: After = None,
    before: Before = None,
    min_width: MinWidth = None,
    min_height: MinHeight = None,
    orientation: Orientation = None,
    file_format: Format = None,
    camera: Camera = None,
    near: Near = None,
    tag: Tag = None,
    where: Where = None,
    min_score: MinScore = None,
    min_confidence: MinConfidence = None,
    batch: Annotated[
        Path | None,
        typer.Option(
            help="Answer each line of a file as one JSON line; - reads stdin.", metavar="FILE"
        ),
    ] = None,
    as_json: AsJson = False,
    paths: PathsOnly = False,
    print0: Print0 = False,
    sheet: ContactSheet = None,
    open_: OpenViewer = False,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Find pictures by describing them.

    Join terms with + and -. A number before a term is its weight; a path is a picture.

    Example: mmsearch query "2:golden retriever + snow -people" -k 5 --after 2020 --sheet dogs.html
    """
    check_device(device)
    parameters = dict(locals())
    from mmsearch.cli import search_command

    search_command.query(**parameters)


def similar(
    image: Annotated[Path, typer.Argument(help="Picture to compare with.", show_default=False)],
    k: TopK = 10,
    name: IndexName = "default",
    home: Home = None,
    min_score: MinScore = None,
    as_json: AsJson = False,
    paths: PathsOnly = False,
    print0: Print0 = False,
    sheet: ContactSheet = None,
    open_: OpenViewer = False,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Find pictures similar to a picture.

    Example: mmsearch similar ./windmill.jpg
    """
    check_device(device)
    parameters = dict(locals())
    from mmsearch.cli import search_command

    search_command.similar(**parameters)
