"""``mmsearch query`` and ``mmsearch similar``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import AsJson, Device, Home, IndexName, Verbose, open_index
from mmsearch.cli.output import warn
from mmsearch.core.hardware import has_nvidia_gpu
from mmsearch.core.requests import SearchResult

Count = Annotated[int, typer.Option("-k", help="How many hits at most.", metavar="N")]
MinScore = Annotated[
    float | None,
    typer.Option(help="Leave out hits below this cosine similarity.", metavar="X"),
]
Paths = Annotated[bool, typer.Option("--paths", help="Print only absolute paths, one a line.")]
Paths0 = Annotated[
    bool, typer.Option("--print0", "-0", help="Print only absolute paths, each ended by NUL.")
]
Sheet = Annotated[
    Path | None,
    typer.Option(help="Write a contact sheet of the hits: .png, .jpg or .html.", metavar="FILE"),
]
Open = Annotated[
    bool, typer.Option("--open", help="Open the sheet, or else the best hit, in a viewer.")
]


def query(
    text: Annotated[list[str], typer.Argument(help="A description.", show_default=False)],
    k: Count = 10,
    name: IndexName = "default",
    home: Home = None,
    min_score: MinScore = None,
    as_json: AsJson = False,
    paths: Paths = False,
    print0: Paths0 = False,
    sheet: Sheet = None,
    open_: Open = False,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Find pictures by describing them.

    Example: mmsearch query "a red car" -k 5 --sheet cars.html
    """
    with open_index(name, home, device=device) as index:
        result = index.query(" ".join(text), k, min_score=min_score)
        if result.dropped_tokens:
            warn(
                f"The query is longer than {result.encoder!r} reads; "
                f"the last {result.dropped_tokens} tokens were left out."
            )
        _show(index, result, _Form(as_json, paths, print0, sheet, open_, device, verbose))


def similar(
    image: Annotated[Path, typer.Argument(help="A picture.", show_default=False)],
    k: Count = 10,
    name: IndexName = "default",
    home: Home = None,
    min_score: MinScore = None,
    as_json: AsJson = False,
    paths: Paths = False,
    print0: Paths0 = False,
    sheet: Sheet = None,
    open_: Open = False,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Find pictures that look like a picture.

    Example: mmsearch similar ./windmill.jpg
    """
    with open_index(name, home, device=device) as index:
        result = index.query_image(image, k, min_score=min_score)
        _show(index, result, _Form(as_json, paths, print0, sheet, open_, device, verbose))


@dataclass(frozen=True)
class _Form:
    """In which form an answer is wanted."""

    as_json: bool
    paths: bool
    print0: bool
    sheet: Path | None
    open: bool
    device: str | None
    verbose: bool


def _show(index: api.Index, result: SearchResult, form: _Form) -> None:
    _explain(index, result, form)
    if form.as_json:
        output.print_json(result)
    elif form.paths or form.print0:
        output.print_paths(result.hits, b"\0" if form.print0 else b"\n")
    elif result.hits:
        output.print_hits(result)
    if form.sheet is not None:
        from mmsearch.cli.sheet import write_sheet  # noqa: PLC0415 - Pillow only for a sheet

        write_sheet(form.sheet, index, result)
        warn(f"Contact sheet: {form.sheet}")
    if form.open and result.hits:
        typer.launch(str(form.sheet or result.hits[0].path))


def _explain(index: api.Index, result: SearchResult, form: _Form) -> None:
    if not result.pictures:
        warn(f"Index {index.name!r} holds no pictures yet; run: mmsearch index FOLDER")
    elif not result.hits:
        warn("No picture reaches the least score that was asked for.")
    on_cpu = result.devices.get("vector_index") == "cpu"
    if on_cpu and form.device in (None, "auto") and has_nvidia_gpu():
        warn("This machine has an NVIDIA GPU, but FAISS cannot use it: searching on the CPU.")
    if form.verbose:
        where = ", ".join(f"{part} on {device}" for part, device in result.devices.items())
        steps = ", ".join(f"{step} {s * 1000:.0f} ms" for step, s in result.timings_s.items())
        warn(
            f"Encoder {result.encoder}; {where}; generation {result.generation}, "
            f"{result.pictures:,} pictures; {steps}."
        )
