"""Implementation of ``mmsearch query`` and ``mmsearch similar``, after argument parsing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import EXIT_SKIPPED
from mmsearch.cli.fast_args import with_defaults
from mmsearch.cli.output import warn
from mmsearch.cli.streams import has_failed
from mmsearch.core.errors import InvalidQueryError, SourceError, UsageError
from mmsearch.core.files import os_error_reason
from mmsearch.core.filters import FILTERS, Filters
from mmsearch.core.query import SearchRequest

if TYPE_CHECKING:
    from mmsearch.core.speech import Transcript

_ID = re.compile("0*[1-9][0-9]{0,17}")


def make_request(command: str, transcript: Transcript | None = None, **given: Any) -> SearchRequest:
    """Return the request of ``query`` or ``similar``.

    Args:
        command: Name of the command.
        transcript: Words of a spoken query.
        **given: The parameters that were given; see `fast_args.OPTIONS`.

    Raises:
        UsageError: Several descriptions are given.
    """
    values = with_defaults(command, given)
    if command == "similar":
        files, urls = _split_urls([values["image"]])
        query = api.parse_query(images=files, urls=urls)
        return SearchRequest(
            query,
            values["k"],
            values["min_score"],
            sort=values["sort"],
            fold=not values["no_fold"],
        )
    _check_one_description(values)
    return _make_line_parser(values)(transcript or " ".join(values["text"] or ()))


def _split_urls(images: Iterable[Path | str]) -> tuple[list[Path], list[str]]:
    """Return which pictures of a query are files, and which are URLs.

    Raises:
        UsageError: A picture is a number and no file, such as the id of a hit.
    """
    files, urls = [], []
    for image in map(str, images):
        # A path has no double slash.
        if match := re.match(r"(https?:)/+", image, re.IGNORECASE):
            urls.append(f"{match[1]}//{image[match.end() :]}")
        elif image.isdecimal() and not Path(image).exists():
            raise UsageError(
                f"There is no file {image}.",
                f"If it is the id of a hit, use: mmsearch query --like {image}",
            )
        else:
            files.append(Path(image))
    return files, urls


def _make_line_parser(values: Mapping[str, Any]) -> Callable[[str | Transcript], SearchRequest]:
    """Return a parser of lines of the query language, with the options of ``query``.

    It takes transcripts, too, in which nothing is parsed.
    """
    filters = parse_filter_options(values)
    files, urls = _split_urls(values["image"] or ())
    like, unlike = (_parse_ids(option, values) for option in ("like", "unlike"))

    def parse_line(line: str | Transcript) -> SearchRequest:
        parsed = api.parse_query(
            line,
            without=values["without"] or (),
            images=files,
            like=like,
            unlike=unlike,
            urls=urls,
            filters=filters,
            mode=values["mode"],
            blend=values["blend"],
            prompts=values["prompt"] or None,
        )
        return SearchRequest(
            parsed,
            values["k"],
            values["min_score"],
            values["min_confidence"],
            sort=values["sort"],
            fold=not values["no_fold"],
            literal=values["literal"],
        )

    return parse_line


def _parse_ids(option: str, values: Mapping[str, Any]) -> list[int]:
    """Return the ids of pictures of an option.

    Raises:
        UsageError: One is not an id, or does not say which of several indexes it is in.
    """
    ids, names = [], values["name"]
    for text in values[option] or ():
        if len(names) > 1:
            from mmsearch.core.federated_ids import parse_picture

            ids.append(parse_picture(text, names))
        elif _ID.fullmatch(str(text)):
            ids.append(int(text))
        else:
            raise UsageError(
                f"{text!r} is not the id of a hit.", f"Use a whole number: --{option} 12"
            )
    return ids


def parse_filter_options(values: Mapping[str, Any]) -> Filters:
    """Return the filters of the options of a command."""
    given = {spec.keyword: values[spec.name] for spec in FILTERS}
    if given["paths"]:
        from mmsearch.core.globs import resolve_globs

        given["paths"] = resolve_globs(given["paths"])
    return api.parse_filters(**given)


def query(**given: Any) -> None:
    """Answer a typed or spoken query or a batch file; see `mmsearch.cli.search.query`."""
    values = with_defaults("query", given)
    parse_line = _make_line_parser(values)
    _check_one_description(values)
    if values["speech"] is not None:
        _search_speech(parse_line, values)
        return
    if values["batch"] is None:
        _search(parse_line(" ".join(values["text"] or ())), values)
        return
    with open_index(values) as index:
        _run_batch(index, values["batch"], parse_line)


def _check_one_description(values: Mapping[str, Any]) -> None:
    """Reject several descriptions, of which only one could be searched.

    Raises:
        UsageError: There are several, or the language of a recording that is not given.
    """
    given = ["a description"] if values["text"] else []
    given += [f"--{name}" for name in ("speech", "batch") if values[name] is not None]
    if len(given) > 1:
        text = " and ".join(given)
        raise UsageError(f"{text[0].upper()}{text[1:]} were both given.", "Leave one of them out.")
    if values["speech_language"] is not None and values["speech"] is None:
        raise UsageError(
            "--speech-language was given without --speech.", "Give the recording: --speech FILE."
        )


def similar(**given: Any) -> None:
    """Find pictures similar to a picture; see `mmsearch.cli.search.similar`."""
    _search(make_request("similar", **given), with_defaults("similar", given))


def open_index(values: Mapping[str, Any]) -> api.Index | api.FederatedIndex:
    """Return the index of a command, or several as one."""
    names, options = values["name"], {"home": values["home"], "device": values["device"]}
    if len(names) > 1:
        return api.open_indexes(names, on_message=warn, **options)
    return api.open_index(names[0], on_message=warn, **options)


def _search(request: SearchRequest, values: Mapping[str, Any]) -> None:
    """Search the index, print the result, and write and open a contact sheet."""
    _check_sheet(values["sheet"])
    with open_index(values) as index:
        _answer(index, request, values)


def _search_speech(
    parse_line: Callable[[str | Transcript], SearchRequest], values: Mapping[str, Any]
) -> None:
    """Search the index by a spoken description, and print what was heard."""
    from mmsearch.core.speech import MAX_SOUND_BYTES

    _check_sheet(values["sheet"])
    speech: Path | bytes = values["speech"]
    if isinstance(speech, Path) and str(speech) == "-":
        speech = sys.stdin.buffer.read(MAX_SOUND_BYTES + 1)
    with open_index(values) as index:
        transcript = index.listen(speech, language=values["speech_language"])
        heard = transcript.heard.to_dict()
        output.warn_heard(heard)
        _answer(index, parse_line(transcript), values, {"heard": heard})


def _check_sheet(sheet: Path | None) -> None:
    if sheet is not None:
        from mmsearch.cli.contact_sheet import check_sheet_path

        check_sheet_path(sheet)


def _answer(
    index: api.Index | api.FederatedIndex,
    request: SearchRequest,
    values: Mapping[str, Any],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Print the result of a request, and write and open a contact sheet.

    Args:
        index: The index.
        request: The request.
        values: Parameters of the command.
        facts: Further members of the JSON object.
    """
    sheet = values["sheet"]
    result = index.query(request)
    output.print_search(
        result.to_dict() | dict(facts or {}),
        index.name,
        device=values["device"],
        **{name: values[name] for name in output.OUTPUT_OPTIONS},
    )
    if sheet is not None:
        from mmsearch.cli.contact_sheet import write_contact_sheet

        write_contact_sheet(sheet, index, result)
        warn(f"Contact sheet: {sheet}")
    if values["open_"] and result.hits:
        import typer

        # `original` verifies the file: a catalog from someone else could name a program.
        typer.launch(str(sheet or index.original(result.hits[0])))


def _run_batch(
    index: api.Index | api.FederatedIndex, batch: Path, parse_line: Callable[[str], SearchRequest]
) -> None:
    """Answer each line with one JSON object, in order; a line that fails gets its error."""
    try:
        lines = (sys.stdin.read() if str(batch) == "-" else batch.read_text("utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = os_error_reason(error) if isinstance(error, OSError) else str(error)
        raise SourceError(
            f"{batch} cannot be read as lines of text: {reason}.", "Give a text file in UTF-8."
        ) from error
    failed_count = 0
    requests: list[SearchRequest | InvalidQueryError] = []
    lines = [line for line in lines if line.strip()]
    for line in lines:
        try:
            requests.append(parse_line(line))
        except InvalidQueryError as error:
            requests.append(error)
    results = index.iter_search(
        [request for request in requests if isinstance(request, SearchRequest)]
    )
    for line, request in zip(lines, requests, strict=True):
        try:
            if isinstance(request, InvalidQueryError):
                raise request
            output.print_json_line({"line": line, **next(results).to_dict()})
        except UsageError as error:
            failed_count += 1
            output.print_json_line({"line": line, "error": error.command_text})
        sys.stdout.flush()
        if has_failed(sys.stdout):
            break
    if failed_count:
        warn(f"{failed_count} of {len(lines)} queries could not be answered.")
        raise SystemExit(EXIT_SKIPPED)
