"""Options shared by several commands, a function to open the index they name, and their group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mmsearch import api
from mmsearch.cli.fast_args import options_of
from mmsearch.cli.output import warn
from mmsearch.core.errors import UnknownIndexError, UsageError
from mmsearch.core.settings import DEVICES


def typer_option(name: str) -> Any:
    """Return an option of ``query`` for typer."""
    option = options_of("query")[name]
    return typer.Option(
        *option.flags,
        help=option.help,
        metavar=option.metavar,
        show_default=option.show_default,
        min=option.min,
        max=option.max,
    )


IndexName = Annotated[str, typer.Option("--index", help="Name of the index.", metavar="NAME")]
Home = Annotated[Path | None, typer_option("home")]
Device = Annotated[str | None, typer_option("device")]
AsJson = Annotated[bool, typer_option("as_json")]
Verbose = Annotated[bool, typer_option("verbose")]
Mode = Annotated[str | None, typer_option("mode")]
WaitSeconds = Annotated[
    float,
    typer.Option("--wait", help="Seconds to wait for another writer.", metavar="SECONDS", min=0),
]

Include = Annotated[
    list[str] | None,
    typer.Option(help="Index only files that match GLOB; repeatable.", metavar="GLOB"),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="Leave out files and folders that match GLOB; repeatable.", metavar="GLOB"),
]
Hidden = Annotated[bool | None, typer.Option("--hidden", help="Index hidden files too.")]
FollowSymlinks = Annotated[
    bool | None,
    typer.Option("--follow-symlinks", help="Follow symbolic links to files and folders."),
]
Captions = Annotated[
    Path | None,
    typer.Option(
        help="Table of captions: .csv, .tsv, .json, .jsonl or .parquet with columns path, "
        "caption. If given again, it replaces its earlier version.",
        metavar="FILE",
    ),
]
Describe = Annotated[
    str | None,
    typer.Option(
        help="Texts that models make once the pictures can be found, in this run and later ones: "
        "some of tags,ocr,speech,captions; or none.",
        metavar="KINDS",
    ),
]
Vocabulary = Annotated[
    Path | None,
    typer.Option(
        help="File of the tags to choose from, one a line.",
        metavar="FILE",
        show_default="built-in",
    ),
]
SpeechLanguage = Annotated[
    str | None,
    typer.Option(
        help="Language that is spoken in films and sounds, such as de.",
        metavar="CODE",
        show_default="detected",
    ),
]
CaptionModel = Annotated[
    Path | None,
    typer.Option(help="Folder of the model that writes captions.", metavar="FOLDER"),
]
Kind = Annotated[
    str | None,
    typer.Option(
        help="Kind of a source that is not a folder: archive, table, remote or dataset.",
        show_default="by its name",
    ),
]
Choice = Annotated[
    list[str] | None,
    typer.Option(
        help="Choice of a source that is not a folder, such as url_column=url; repeatable.",
        metavar="NAME=VALUE",
    ),
]
Reset = Annotated[
    list[str] | None,
    typer.Option(
        help="Set a kept choice back to its default: include, exclude, hidden, follow_symlinks, "
        "captions, describe, or one of --choice; repeatable.",
        metavar="NAME",
    ),
]


def open_index(
    name: str, home: Path | None, *, model: str | None = None, device: str | None = None
) -> api.Index:
    """Open the index that the options name; slow one-time work is reported on stderr."""
    return api.open_index(
        name, home=home, model=model, device=check_device(device), on_message=warn
    )


@contextmanager
def name_is_argument() -> Iterator[None]:
    """Change the hint of an unknown index for a command whose argument names it."""
    try:
        yield
    except UnknownIndexError as error:
        hint = getattr(error.hint, "command", error.hint)
        error.hint = hint.replace("Choose one with --index NAME.", "Choose one of them.")
        raise


def parse_describe(
    describe: str | None,
    vocabulary: Path | None,
    language: str | None,
    caption_model: Path | None,
) -> dict[str, Any] | None:
    """Return the choice of texts that models make; None if it is not given.

    Raises:
        UsageError: There is an option of a kind that is not in the choice.
    """
    names = None if describe is None else [name.strip() for name in describe.split(",")]
    for kind, value, sentence in (
        ("tags", vocabulary, "The vocabulary is for tags."),
        ("speech", language, "The language is for speech."),
        ("captions", caption_model, "The captioning model is for captions."),
    ):
        if value is not None and kind not in (names or ()):
            raise UsageError(sentence, f"Add --describe {kind}.")
    if names is None:
        return None
    options = {
        "tags": {"vocabulary": vocabulary},
        "speech": {"language": language},
        "captions": {"model_folder": caption_model},
    }
    return {name: options.get(name, {}) for name in names if name}


def check_device(device: str | None) -> str | None:
    """Return the device if its name is valid, or raise BadParameter."""
    return check_choice(device, DEVICES, "--device")


def check_choice(value: str | None, choices: Sequence[str], option: str) -> str | None:
    """Return the value of an option if it is None or one of its choices.

    Raises:
        BadParameter: It is neither.
    """
    if value is not None and value not in choices:
        raise typer.BadParameter(
            f"must be {', '.join(choices[:-1])} or {choices[-1]}, got {value!r}", param_hint=option
        )
    return value


def runs_command(context: typer.Context, name: str, home: Path | None, *, as_json: bool) -> bool:
    """Return True if a command of a group follows; its defaults are the options of the group.

    Raises:
        UsageError: ``--json`` stands before the command.
    """
    command = context.invoked_subcommand
    if command is None:
        return False
    if as_json:
        raise UsageError(
            f"--json does not apply to '{context.info_name} {command}'.", "Leave it out."
        )
    context.default_map = {command: {"name": name, "home": home}}
    return True


class Group(TyperGroup):
    """A group of commands; a mistake on the command line is reported with its command."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # typer does not say which command was given an option without its value.
            if getattr(error, "ctx", error) is None and not hasattr(error, "command_path"):
                error.command_path = f"{ctx.command_path} {ctx.invoked_subcommand}"  # type: ignore[attr-defined]
            raise
