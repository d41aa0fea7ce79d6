"""``mmsearch models pull``."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.errors import EXIT_INTERRUPTED
from mmsearch.cli.options import AsJson, Home, IndexName
from mmsearch.cli.output import human_bytes, warn
from mmsearch.cli.progress import show_download
from mmsearch.core.errors import MMSearchError, UsageError
from mmsearch.core.settings import load_settings

if TYPE_CHECKING:
    from mmsearch.core.types import ModelInfo
    from mmsearch.encoders._pull import ModelPull, PulledModel


def pull(
    model: Annotated[
        str | None,
        typer.Argument(help="open_clip:ARCH/TAG.", show_default="the recommended model"),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Pull the small model, which reads English.")
    ] = False,
    best: Annotated[bool, typer.Option("--best", help="Pull the most accurate model.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    sha256: Annotated[
        str | None,
        typer.Option(
            help="Accept only weights with this checksum, in place of the known one.", metavar="HEX"
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Pull a model that is on this machine already.")
    ] = False,
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Download a better model, and keep a compact compiled copy.

    Size, licence, languages and the time for your pictures are shown first. An interrupted
    download continues where it stopped. Without internet, see 'mmsearch models import'.

    Example: mmsearch models pull
    """
    wanted = _choose(model, small=small, best=best)
    pictures, encoder = _read_index(name, home)
    info = api.find_pullable_model(wanted)
    pulled = None
    try:
        if again or sha256 or not info.compiled:
            pulled = _pull(wanted, sha256, pictures, yes=yes)
    except KeyboardInterrupt:
        warn("Interrupted. What has arrived is kept; run the same command again to continue.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if pulled is None:
        warn(f"{info.name} is on this machine already.")
    elif as_json:
        output.print_json(pulled)
    _offer_as_default(info, yes=yes)
    if pictures and encoder != info.name:
        options = "" if name == "default" else f" --index {name}"
        options += "" if home is None else f" --home {home}"
        warn(
            f"Next, for the {pictures:,} pictures of index {name!r}, which stays in use meanwhile: "
            f"mmsearch reindex --model {info.name}{options}"
        )


def _choose(model: str | None, *, small: bool, best: bool) -> str:
    chosen = [*([model] if model else []), *(["small"] if small else []), *(["best"] * best)]
    if len(chosen) > 1:
        raise UsageError("A model, --small and --best exclude each other.", "Use only one of them.")
    return chosen[0] if chosen else "recommended"


def _read_index(name: str, home: Path | None) -> tuple[int, str | None]:
    """Return the number of pictures of the index, and its encoder; 0 and None without an index."""
    with suppress(MMSearchError), api.open_index(name, home=home) as index:
        if index.exists():
            status = index.status()
            return status.pictures, status.identity.encoder.name if status.identity else None
    return 0, None


def _pull(wanted: str, sha256: str | None, pictures: int, *, yes: bool) -> PulledModel:
    plan = api.plan_pull(wanted, sha256=sha256, on_message=warn)
    for label, value in _describe(plan, pictures):
        warn(f"{label:<14}{value}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                "This command asks before it downloads, and there is no terminal to answer on.",
                "Add --yes.",
            )
        typer.confirm("Download it?", default=True, abort=True, err=True)
    with show_download() as progress:
        pulled = plan.run(progress)
    warn(
        f"{pulled.name} is ready after {pulled.seconds:.0f} s: "
        f"{human_bytes(pulled.downloaded_bytes)} downloaded, {human_bytes(pulled.kept_bytes)} kept."
    )
    return pulled


def _describe(plan: ModelPull, pictures: int) -> list[tuple[str, str]]:
    """Return what a user should know before a download, as labels and values."""
    known = plan.known
    licence = plan.licence or "not stated by the hub; look it up before you use the model"
    size = human_bytes(plan.download_bytes) if plan.download_bytes else "unknown size"
    if plan.arrived_bytes:
        size += f", of which {human_bytes(plan.arrived_bytes)} are here"
    lines = [
        ("model", plan.name),
        ("from", f"{plan.endpoint}/{plan.repository}"),
        ("licence", licence),
        ("languages", known.languages if known else "see the page of the model"),
        ("download", size),
        ("stays", f"about {human_bytes(known.compiled_bytes)}" if known else "less than that"),
    ]
    seconds = plan.estimate_seconds(pictures or 1000)
    if seconds is not None:
        subject = f"your {pictures:,} pictures" if pictures else "1,000 pictures"
        lines.append(("time", f"about {_format_duration(seconds)} for {subject} on this processor"))
    if plan.expected_sha256:
        lines.append(("sha256", plan.expected_sha256))
    if known and known.research_only:
        lines.append(("note", "the licence allows research only"))
    return lines


def _format_duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _offer_as_default(model: ModelInfo, *, yes: bool) -> None:
    """Make a pulled model the one for new indexes if the user wants it or has chosen none."""
    current = load_settings().model
    if current == model.name:
        return
    if model.research_only:
        warn("Its licence allows research only, so new indexes use it only with --model.")
    elif current == "auto" if yes or not sys.stdin.isatty() else _confirm_default():
        api.use_model(model.name)
        warn(f"New indexes use {model.name}.")
    else:
        warn(f"New indexes use {current}; change that with: mmsearch models use {model.name}")


def _confirm_default() -> bool:
    return typer.confirm("Use it for new indexes?", default=True, err=True)
