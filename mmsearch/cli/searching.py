"""``mmsearch query`` and ``mmsearch similar``."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from mmsearch import api
from mmsearch.cli import output
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
    open_index,
)
from mmsearch.cli.output import warn
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.hardware import has_nvidia_gpu
from mmsearch.core.queries import Band, Query
from mmsearch.core.requests import SearchRequest, SearchResult

SKIPPED = 3

Count = Annotated[int, typer.Option("-k", help="How many hits at most.", metavar="N")]
MinScore = Annotated[
    float | None,
    typer.Option(help="Leave out hits with a lower score.", metavar="X"),
]
MinConfidence = Annotated[
    float | None,
    typer.Option(help="Leave out hits that are less sure than this, 0 to 1.", metavar="P"),
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

_QUOTE = '"'

# No option of ours is spelled with one dash and a word.
_TAKEN_AWAY = re.compile(r"-[^\W\d_]{2,}.*|-\".*\"")


class QueryCommand(TyperCommand):
    """A command whose arguments may be negative terms: ``street -people``."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """As click does, once ``-people`` stands as ``--not people``."""
        end = args.index("--") if "--" in args else len(args)
        turned = [
            "--not=" + arg[1:].strip(_QUOTE) if _TAKEN_AWAY.fullmatch(arg) else arg
            for arg in args[:end]
        ]
        return super().parse_args(ctx, turned + args[end:])


def query(
    text: Annotated[
        list[str] | None,
        typer.Argument(help="A description, in the query language.", show_default=False),
    ] = None,
    k: Count = 10,
    name: IndexName = "default",
    home: Home = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--not", help="What pictures shall not look like; -WORD says the same.", metavar="TEXT"
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="A picture that they shall look like.", metavar="FILE"),
    ] = None,
    mode: Mode = None,
    blend: Annotated[
        str | None,
        typer.Option(
            help="What joins look and texts: score_blend or reciprocal_rank.", metavar="NAME"
        ),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help='Phrasing of the description, such as "a photo of {}".', metavar="TEXT"),
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
            help="Answer each line of a file, as JSON lines; - reads stdin.", metavar="FILE"
        ),
    ] = None,
    as_json: AsJson = False,
    paths: Paths = False,
    print0: Paths0 = False,
    sheet: Sheet = None,
    open_: Open = False,
    device: Device = None,
    verbose: Verbose = False,
) -> None:
    """Find pictures by describing them.

    Terms are joined by + and -; a number before a term weighs it; a path is a picture.

    Example: mmsearch query "2:golden retriever + snow -people" -k 5 --after 2020 --sheet dogs.html
    """
    filters = api.parse_filters(
        paths=path or (),
        after=after,
        before=before,
        min_width=min_width,
        min_height=min_height,
        orientation=orientation,
        formats=file_format or (),
        cameras=camera or (),
        near=near,
        tags=tag or (),
        where=where,
    )

    def parsed(line: str) -> Query:
        return api.parse_query(
            line,
            without=without or (),
            images=image or (),
            filters=filters,
            mode=mode,
            blend=blend,
            prompts=prompt or None,
        )

    if batch is not None and text:
        raise UsageError("A description and --batch were both given.", "Leave one of them away.")
    with open_index(name, home, device=device) as index:
        if batch is not None:
            _answer_lines(index, batch, parsed, k, min_score, min_confidence)
            return
        request = SearchRequest(parsed(" ".join(text or ())), k, min_score, min_confidence)
        result = index.query(request)
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
        result = index.query(SearchRequest(api.parse_query(images=[image]), k, min_score))
        _show(index, result, _Form(as_json, paths, print0, sheet, open_, device, verbose))


def _answer_lines(
    index: api.Index,
    batch: Path,
    parsed: Callable[[str], Query],
    k: int,
    min_score: float | None,
    min_confidence: float | None,
) -> None:
    """One JSON object a line, in the order of the lines; a line that fails says so in its place."""
    try:
        lines = (sys.stdin.read() if str(batch) == "-" else batch.read_text("utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{batch} cannot be read as lines of text: {error}.") from error
    wrong = 0
    requests: list[SearchRequest | InvalidQueryError] = []
    lines = [line for line in lines if line.strip()]
    for line in lines:
        try:
            requests.append(SearchRequest(parsed(line), k, min_score, min_confidence))
        except InvalidQueryError as error:
            requests.append(error)
    answers = index.query_all([one for one in requests if isinstance(one, SearchRequest)])
    for line, request in zip(lines, requests, strict=True):
        try:
            if isinstance(request, InvalidQueryError):
                raise request
            output.print_json_line({"line": line, **output.plain(next(answers))})
        except UsageError as error:
            wrong += 1
            output.print_json_line({"line": line, "error": str(error)})
    if wrong:
        warn(f"{wrong} of {len(lines)} queries could not be answered.")
        raise typer.Exit(SKIPPED)


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
    for line in _remarks(index, result, form):
        warn(line)
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


def _remarks(index: api.Index, result: SearchResult, form: _Form) -> Iterator[str]:
    if not result.pictures:
        yield f"Index {index.name!r} holds no pictures yet; run: mmsearch index FOLDER"
    elif not result.passed:
        yield "No picture passes the filters."
    elif result.match is None:
        yield "No text of a picture holds a word of this."
    elif not result.hits:
        yield "No picture reaches the least score or confidence that was asked for."
    elif result.match is Band.UNLIKELY and result.calibrated:
        yield "Nothing here looks like that; nearest:"
    on_cpu = result.devices.get("vector_index") == "cpu"
    if on_cpu and form.device in (None, "auto") and has_nvidia_gpu():
        yield "This machine has an NVIDIA GPU, but FAISS cannot use it: searching on the CPU."
    if form.verbose:
        where = ", ".join(f"{part} on {device}" for part, device in result.devices.items())
        steps = ", ".join(f"{step} {s * 1000:.0f} ms" for step, s in result.timings_s.items())
        yield (
            f"Encoder {result.encoder}; {result.mode} search; {where}; generation "
            f"{result.generation}, {result.passed:,} of {result.pictures:,} pictures; {steps}."
        )
