"""Implementation of ``mmsearch query`` and ``mmsearch similar``, after argument parsing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import EXIT_SKIPPED
from mmsearch.cli.output import warn
from mmsearch.cli.streams import has_failed
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.gpu_memory import has_nvidia_gpu
from mmsearch.core.query import Band, Query, SearchRequest
from mmsearch.core.results import SearchResult

OpenIndex = Callable[[str, Path | None, str | None], AbstractContextManager[api.Index]]
"""Function that returns the index of a name, home and device; a resident process has it open."""


def _open_local_index(
    name: str, home: Path | None, device: str | None
) -> AbstractContextManager[api.Index]:
    return api.open_index(name, home=home, device=device, on_message=warn)


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
    open_index: OpenIndex = _open_local_index,
) -> None:
    """Answer a query or the lines of a batch file; see `mmsearch.cli.search.query`."""
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

    def parse_line(line: str) -> Query:
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
    with open_index(name, home, device) as index:
        if batch is not None:
            _run_batch(index, batch, parse_line, k, min_score, min_confidence)
            return
        request = SearchRequest(parse_line(" ".join(text or ())), k, min_score, min_confidence)
        result = index.query(request)
        if result.dropped_tokens:
            warn(
                f"The query is longer than {result.encoder!r} can read; "
                f"the last {result.dropped_tokens} tokens were left out."
            )
        _print_result(
            index, result, _OutputOptions(as_json, paths, print0, sheet, open_, device, verbose)
        )


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
    open_index: OpenIndex = _open_local_index,
) -> None:
    """Find pictures similar to a picture; see `mmsearch.cli.search.similar`."""
    with open_index(name, home, device) as index:
        result = index.query(SearchRequest(api.parse_query(images=[image]), k, min_score))
        _print_result(
            index, result, _OutputOptions(as_json, paths, print0, sheet, open_, device, verbose)
        )


def _run_batch(
    index: api.Index,
    batch: Path,
    parse_line: Callable[[str], Query],
    k: int,
    min_score: float | None,
    min_confidence: float | None,
) -> None:
    """Answer each line with one JSON object, in order; a line that fails gets its error."""
    try:
        lines = (sys.stdin.read() if str(batch) == "-" else batch.read_text("utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{batch} cannot be read as lines of text: {error}.") from error
    failed_count = 0
    requests: list[SearchRequest | InvalidQueryError] = []
    lines = [line for line in lines if line.strip()]
    for line in lines:
        try:
            requests.append(SearchRequest(parse_line(line), k, min_score, min_confidence))
        except InvalidQueryError as error:
            requests.append(error)
    results = index.iter_search(
        [request for request in requests if isinstance(request, SearchRequest)]
    )
    for line, request in zip(lines, requests, strict=True):
        try:
            if isinstance(request, InvalidQueryError):
                raise request
            output.print_json_line({"line": line, **output.to_jsonable(next(results))})
        except UsageError as error:
            failed_count += 1
            output.print_json_line({"line": line, "error": str(error)})
        sys.stdout.flush()
        if has_failed(sys.stdout):
            break
    if failed_count:
        warn(f"{failed_count} of {len(lines)} queries could not be answered.")
        raise SystemExit(EXIT_SKIPPED)


@dataclass(frozen=True)
class _OutputOptions:
    """Output options of a search."""

    as_json: bool
    paths: bool
    print0: bool
    sheet: Path | None
    open: bool
    device: str | None
    verbose: bool


def _print_result(index: api.Index, result: SearchResult, options: _OutputOptions) -> None:
    for line in _format_notices(index, result, options):
        warn(line)
    if options.as_json:
        output.print_json(result)
    elif options.paths or options.print0:
        output.print_paths(result.hits, b"\0" if options.print0 else b"\n")
    elif result.hits:
        output.print_hits(result)
    if options.sheet is not None:
        from mmsearch.cli.contact_sheet import write_contact_sheet

        write_contact_sheet(options.sheet, index, result)
        warn(f"Contact sheet: {options.sheet}")
    if options.open and result.hits:
        import typer

        # `original` verifies the file: a catalog from someone else could name a program.
        typer.launch(str(options.sheet or index.original(result.hits[0])))


def _format_notices(
    index: api.Index, result: SearchResult, options: _OutputOptions
) -> Iterator[str]:
    if not result.pictures:
        yield f"Index {index.name!r} holds no pictures yet; run: mmsearch index FOLDER"
    elif not result.passed:
        yield "No picture passes the filters."
    elif result.match is None:
        yield "No text of any picture contains a word of the query."
    elif not result.hits:
        yield "No results above your minimum score or confidence."
    elif result.match is Band.UNLIKELY and result.calibrated:
        yield "No good matches. Closest results:"
    on_cpu = result.devices.get("vector_index") == "cpu"
    if on_cpu and options.device in (None, "auto") and has_nvidia_gpu():
        yield "This machine has an NVIDIA GPU, but FAISS cannot use it: searching on the CPU."
    if options.verbose:
        devices = ", ".join(f"{part} on {device}" for part, device in result.devices.items())
        timings = ", ".join(f"{step} {s * 1000:.0f} ms" for step, s in result.timings_s.items())
        yield (
            f"Encoder {result.encoder}; {result.mode} search; {devices}; generation "
            f"{result.generation}, {result.passed:,} of {result.pictures:,} pictures; {timings}."
        )
