"""``mmsearch describe``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmsearch.cli.options import (
    AsJson,
    Home,
    IndexName,
    SpeechLanguage,
    Vocabulary,
    WaitSeconds,
    open_index,
)
from mmsearch.cli.output import print_json, print_line
from mmsearch.cli.progress import show_progress
from mmsearch.cli.run_output import format_described
from mmsearch.core.errors import UsageError


def describe(
    name: IndexName = "default",
    home: Home = None,
    tags: Annotated[
        bool, typer.Option("--tags", help="Give pictures tags from a vocabulary.")
    ] = False,
    ocr: Annotated[
        bool, typer.Option("--ocr", help="Read texts in pictures and on scanned pages (extra ocr).")
    ] = False,
    speech: Annotated[
        bool, typer.Option("--speech", help="Transcribe films and sounds (extra speech).")
    ] = False,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="Write a sentence about each picture with the model in a folder (extra captions).",
            metavar="FOLDER",
            show_default="none",
        ),
    ] = None,
    vocabulary: Vocabulary = None,
    speech_language: SpeechLanguage = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--source",
            help="Name of a source, to describe its pictures only; repeatable.",
            metavar="NAME",
            show_default="all",
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try files again that could not be read.")
    ] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            help="Remove the texts that were made: tags, ocr, speech or captions; repeatable.",
            metavar="KIND",
        ),
    ] = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Describe an index with models: tags of pictures, texts in them, and what is said in films.

    Only pictures that were not described yet are, so run it again after 'mmsearch index', or let
    'mmsearch index --describe tags,ocr' do it in each run. Without a choice, this does what
    the sources of the index want, or tags if none wants any.

    Tags come from the vectors of the index and never change them: 'mmsearch query --auto-tag dog'
    filters by them, and they are no keywords of a person. With --ocr, searches find signs,
    screenshots and scanned pages by their words, and with --speech films and sounds by what is said
    in them; --captions writes a sentence about each picture with a captioning model in the format
    of transformers. Each file is read once more.

    Example: mmsearch describe --vocabulary my-tags.txt
    Example: mmsearch describe --ocr
    Example: mmsearch describe --speech
    Example: mmsearch describe --captions models/blip-image-captioning-base
    Example: mmsearch describe --remove tags
    """
    wanted = {"tags": tags, "ocr": ocr, "speech": speech, "captions": captions is not None}
    if remove:
        if any((*wanted.values(), vocabulary, speech_language, sources, retry_failed)):
            raise UsageError("--remove describes nothing.", "Leave out the other options.")
        with open_index(name, home) as index:
            removed = index.remove_model_texts(remove, wait_s=wait)
        if as_json:
            print_json({"removed": removed})
        else:
            print_line(f"The texts of {removed:,} pictures are removed.")
        return
    enrichers = [enricher for enricher, is_wanted in wanted.items() if is_wanted] or None
    with open_index(name, home) as index, show_progress() as progress:
        reports = index.describe(
            enrichers,
            sources=sources or (),
            vocabulary=vocabulary,
            language=speech_language,
            caption_model=captions,
            retry_failed=retry_failed,
            wait_s=wait,
            progress=progress,
        )
    if as_json:
        print_json(reports)
        return
    for report in reports:
        for line in format_described(report):
            print_line(line)
