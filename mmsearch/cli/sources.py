"""``mmsearch sources``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import (
    AsJson,
    CaptionModel,
    Captions,
    Choice,
    Describe,
    Exclude,
    FollowSymlinks,
    Group,
    Hidden,
    Home,
    Include,
    IndexName,
    Kind,
    Reset,
    SpeechLanguage,
    Vocabulary,
    WaitSeconds,
    open_index,
    parse_describe,
    runs_command,
)
from mmsearch.cli.progress import show_progress
from mmsearch.cli.run_output import print_outcomes, raise_exit
from mmsearch.core.display import display_path
from mmsearch.core.errors import UsageError
from mmsearch.core.folder_choices import describe_choices
from mmsearch.core.globs import resolve_globs
from mmsearch.core.records import FOLDER_KIND, SourceSummary

SourceName = Annotated[str, typer.Argument(help="Name of the source.", show_default=False)]

app = typer.Typer(
    cls=Group, help="Show where the pictures come from, or add, change, refresh or remove a source."
)


@app.callback(invoke_without_command=True)
def sources(
    context: typer.Context,
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show where the pictures come from: folders, archives, tables, stores.

    Example: mmsearch sources
    """
    if not runs_command(context, name, home, as_json=as_json):
        _print_sources(name, home, as_json=as_json)


@app.command("list")
def list_sources(name: IndexName = "default", home: Home = None, as_json: AsJson = False) -> None:
    """Show where the pictures come from, like 'mmsearch sources'.

    Example: mmsearch sources list --json
    """
    _print_sources(name, home, as_json=as_json)


def _print_sources(name: str, home: Path | None, *, as_json: bool) -> None:
    with open_index(name, home) as index:
        index_sources = index.sources()
    if as_json:
        output.print_json(index_sources)
        return
    headers = ["name", "kind", "place", "pictures>", "last run", "choices"]
    output.print_table("", headers, [_format_source(source) for source in index_sources])


def _format_source(source: SourceSummary) -> tuple[str, ...]:
    ending = "" if source.outcome in (None, "finished") else f", {source.outcome}"
    return (
        source.name,
        source.kind,
        display_path(source.uri),
        f"{source.pictures:,}",
        f"{source.last_run or 'never'}{ending}",
        " ".join(f"{name}={text}" for name, text in describe_choices(source.choices).items()),
    )


@app.command("add")
def add_source(
    source: Annotated[
        str,
        typer.Argument(help="Folder, archive, table, data set or URI.", show_default=False),
    ],
    source_name: Annotated[
        str | None,
        typer.Option("--name", help="Name of the source.", show_default="the end of its place"),
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = None,
    hidden: Hidden = None,
    captions: Captions = None,
    describe: Describe = None,
    vocabulary: Vocabulary = None,
    speech_language: SpeechLanguage = None,
    caption_model: CaptionModel = None,
    kind: Kind = None,
    choice: Choice = None,
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
) -> None:
    """Add a source with its choices; 'mmsearch sources refresh' indexes it later.

    'mmsearch index SOURCE' does both at once.

    Example: mmsearch sources add ./photos --name family --exclude 'drafts/'
    """
    given = _folder_choices(include, exclude, follow_symlinks, hidden, captions)
    if kind not in (None, FOLDER_KIND) or not api.is_folder(source):
        _reject_folder_choices(given)
        given = api.parse_choices(source, kind, choice or ())
    elif choice:
        raise UsageError("--choice does not apply to a folder.", "Leave it out.")
    given |= _describe_choice(describe, vocabulary, speech_language, caption_model)
    with open_index(name, home) as index:
        known = {each.name for each in index.sources()} if index.exists() else set()
        index.add_source(source, kind=kind, name=source_name, refresh=False, wait_s=wait, **given)
        (added,) = [each.name for each in index.sources() if each.name not in known]
    output.warn(f"Source {added!r} is added. Index it: mmsearch sources refresh {added}")


@app.command("set")
def set_source(
    source: SourceName,
    place: Annotated[
        Path | None,
        typer.Option(help="New location of a folder that has moved.", metavar="FOLDER"),
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    follow_symlinks: FollowSymlinks = None,
    hidden: Hidden = None,
    captions: Captions = None,
    describe: Describe = None,
    vocabulary: Vocabulary = None,
    speech_language: SpeechLanguage = None,
    caption_model: CaptionModel = None,
    choice: Choice = None,
    reset: Reset = None,
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
) -> None:
    """Change the choices of a source, or the place of a folder that has moved.

    The next run applies the choices. Nothing is encoded again because of a new place.

    Example: mmsearch sources set photos --exclude 'drafts/'
    """
    given = _folder_choices(include, exclude, follow_symlinks, hidden, captions)
    with open_index(name, home) as index:
        kinds = {each.name: each.kind for each in index.sources()}
        kind = kinds.get(source, FOLDER_KIND)
        if kind == FOLDER_KIND and choice:
            raise UsageError(f"{source!r} is a folder, which has no --choice.", "Leave it out.")
        if kind != FOLDER_KIND:
            _reject_folder_choices(given)
            given = api.parse_choices(source, kind, choice or ())
        given |= _describe_choice(describe, vocabulary, speech_language, caption_model)
        changed = index.set_source(source, place=place, reset=reset or (), wait_s=wait, **given)
    texts = describe_choices(changed.choices)
    choices = " ".join(f"{key}={text}" for key, text in texts.items()) or "as by default"
    output.warn(f"Source {source!r} is {display_path(changed.uri)}; its choices: {choices}.")
    if given or reset:
        output.warn(f"Apply them: mmsearch sources refresh {source}")


@app.command("remove")
def remove_source(
    source: SourceName,
    name: IndexName = "default",
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    wait: WaitSeconds = 0.0,
) -> None:
    """Forget a source and its pictures; nothing is deleted from the source itself.

    Example: mmsearch sources remove holidays --yes
    """
    with open_index(name, home) as index:
        if not yes:
            for each in index.sources():
                if each.name == source:
                    typer.confirm(
                        f"Forget {display_path(each.uri)} and its {each.pictures:,} pictures in"
                        f" index {name!r}?",
                        abort=True,
                    )
        count = index.remove_source(source, wait_s=wait)
        pictures = index.status().pictures
    output.warn(
        f"Source {source!r} with {count:,} files is forgotten;"
        f" index {name!r} holds {pictures:,} pictures."
    )


@app.command("refresh")
def refresh_sources(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Names of sources.", metavar="[SOURCE]...", show_default="all"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry unchanged files that failed before.")
    ] = False,
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
    as_json: AsJson = False,
) -> None:
    """Bring the index up to date with sources, with the choices that it keeps.

    Without names, this is 'mmsearch index' without arguments.

    Example: mmsearch sources refresh photos
    """
    with open_index(name, home) as index, show_progress() as progress:
        outcomes = index.refresh(
            sources or (), retry_failed=retry_failed, wait_s=wait, progress=progress
        )
        status = index.status()
    print_outcomes(name, status, outcomes, as_json=as_json)
    raise_exit(outcomes)


def _folder_choices(
    include: list[str] | None,
    exclude: list[str] | None,
    follow_symlinks: bool | None,
    hidden: bool | None,
    captions: Path | None,
) -> dict[str, Any]:
    """Return the choices of a folder that are given."""
    choices = {
        "include": None if include is None else resolve_globs(include),
        "exclude": None if exclude is None else resolve_globs(exclude),
        "follow_symlinks": follow_symlinks,
        "hidden": hidden,
        "captions": captions,
    }
    return {option: value for option, value in choices.items() if value is not None}


def _describe_choice(
    describe: str | None,
    vocabulary: Path | None,
    language: str | None,
    caption_model: Path | None,
) -> dict[str, Any]:
    choice = parse_describe(describe, vocabulary, language, caption_model)
    return {} if choice is None else {"describe": choice}


def _reject_folder_choices(given: dict[str, Any]) -> None:
    for option in given:
        raise UsageError(
            f"--{option.replace('_', '-')} applies to folders only.",
            "Leave it out for this source.",
        )
