"""Implementation of ``mmsearch query`` and ``mmsearch similar``, after argument parsing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import EXIT_SKIPPED
from mmsearch.cli.output import warn
from mmsearch.cli.streams import has_failed
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.query import Query, SearchRequest


def make_request(
    command: str,
    *,
    text: Sequence[str] | None = None,
    image: Any = None,
    k: int = 10,
    min_score: float | None = None,
    min_confidence: float | None = None,
    **parameters: Any,
) -> SearchRequest:
    """Return the request of ``query`` or ``similar``.

    Args:
        command: Name of the command.
        text: See `mmsearch.cli.search.query`.
        image: Picture of ``similar``, or pictures of ``query``.
        k: Maximum number of hits.
        min_score: Hits with a lower score are left out.
        min_confidence: Hits with a lower confidence are left out.
        **parameters: See `make_query_parser`.
    """
    if command == "similar":
        return SearchRequest(api.parse_query(images=[Path(image)]), k, min_score)
    parse_line = make_query_parser(image=image, **parameters)
    return SearchRequest(parse_line(" ".join(text or ())), k, min_score, min_confidence)


def make_query_parser(
    *,
    without: Sequence[str] | None = None,
    image: Sequence[str | Path] | None = None,
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
) -> Callable[[str], Query]:
    """Return a parser of lines of the query language, with the options of ``query``."""
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
            images=[Path(file) for file in image or ()],
            filters=filters,
            mode=mode,
            blend=blend,
            prompts=prompt or None,
        )

    return parse_line


def query(
    *,
    text: Sequence[str] | None = None,
    k: int = 10,
    name: str = "default",
    home: Path | None = None,
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
    **parameters: Any,
) -> None:
    """Answer a query or the lines of a batch file; see `mmsearch.cli.search.query`."""
    parse_line = make_query_parser(**parameters)
    if batch is not None and text:
        raise UsageError("A description and --batch were both given.", "Leave one of them out.")
    with api.open_index(name, home=home, device=device, on_message=warn) as index:
        if batch is not None:
            _run_batch(index, batch, parse_line, k, min_score, min_confidence)
            return
        request = SearchRequest(parse_line(" ".join(text or ())), k, min_score, min_confidence)
        _search(index, request, device, sheet, open_, as_json, paths, print0, verbose)


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
) -> None:
    """Find pictures similar to a picture; see `mmsearch.cli.search.similar`."""
    with api.open_index(name, home=home, device=device, on_message=warn) as index:
        request = make_request("similar", image=image, k=k, min_score=min_score)
        _search(index, request, device, sheet, open_, as_json, paths, print0, verbose)


def _search(
    index: api.Index,
    request: SearchRequest,
    device: str | None,
    sheet: Path | None,
    open_: bool,
    as_json: bool,
    paths: bool,
    print0: bool,
    verbose: bool,
) -> None:
    """Search the index, print the result, and write and open a contact sheet."""
    result = index.query(request)
    output.print_search(
        output.to_jsonable(result),
        index.name,
        as_json=as_json,
        paths=paths,
        print0=print0,
        verbose=verbose,
        device=device,
    )
    if sheet is not None:
        from mmsearch.cli.contact_sheet import write_contact_sheet

        write_contact_sheet(sheet, index, result)
        warn(f"Contact sheet: {sheet}")
    if open_ and result.hits:
        import typer

        # `original` verifies the file: a catalog from someone else could name a program.
        typer.launch(str(sheet or index.original(result.hits[0])))


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
