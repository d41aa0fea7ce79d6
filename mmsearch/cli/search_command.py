"""What ``mmsearch query`` and ``mmsearch similar`` do, once their arguments are read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import SKIPPED
from mmsearch.cli.output import warn
from mmsearch.cli.streams import is_lost
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.hardware import has_nvidia_gpu
from mmsearch.core.queries import Band, Query
from mmsearch.core.requests import SearchRequest, SearchResult

Opened = Callable[[str, Path | None, str | None], AbstractContextManager[api.Index]]
"""Name, home, device -> the index; a process that stays has it open already."""


def _open_here(
    name: str, home: Path | None, device: str | None
) -> AbstractContextManager[api.Index]:
    return api.open_index(name, home=home, device=device, say=warn)


def query(
    *,
    text: Sequence[str] | None = None,
    k: int = 10,
    name: str = "default",
    home: Path | None = None,
    without: Sequence[str] | None = None,
    image: Sequence[Path] | None = None,
    mode: str | None = None,
    blend: str | None = None,
    prompt: Sequence[str] | None = None,
    path: Sequence[str] | None = None,
    after: str | None = None,
    before: str | None = None,
    min_width: int | None = None,
    min_height: int | None = None,
    orientation: str | None = None,
    file_format: Sequence[str] | None = None,
    camera: Sequence[str] | None = None,
    near: str | None = None,
    tag: Sequence[str] | None = None,
    where: str | None = None,
    min_score: float | None = None,
    min_confidence: float | None = None,
    batch: Path | None = None,
    as_json: bool = False,
    paths: bool = False,
    print0: bool = False,
    sheet: Path | None = None,
    open_: bool = False,
    device: str | None = None,
    verbose: bool = False,
    opened: Opened = _open_here,
) -> None:
    """Answer a query, or the lines of a file; see `mmsearch.cli.search.query`."""
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
        raise UsageError("A description and --batch were both given.", "Leave one of them out.")
    with opened(name, home, device) as index:
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
    *,
    image: Path,
    k: int = 10,
    name: str = "default",
    home: Path | None = None,
    min_score: float | None = None,
    as_json: bool = False,
    paths: bool = False,
    print0: bool = False,
    sheet: Path | None = None,
    open_: bool = False,
    device: str | None = None,
    verbose: bool = False,
    opened: Opened = _open_here,
) -> None:
    """Look for pictures like one; see `mmsearch.cli.search.similar`."""
    with opened(name, home, device) as index:
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
        sys.stdout.flush()
        if is_lost(sys.stdout):
            break
    if wrong:
        warn(f"{wrong} of {len(lines)} queries could not be answered.")
        raise SystemExit(SKIPPED)


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
        from mmsearch.cli.contact_sheet import write_sheet

        write_sheet(form.sheet, index, result)
        warn(f"Contact sheet: {form.sheet}")
    if form.open and result.hits:
        import typer

        # A catalog may be anybody's: what it calls a picture may be a program.
        typer.launch(str(form.sheet or index.original(result.hits[0])))


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
