"""``mmsearch status``, ``list``, ``remove`` and ``roots``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import (
    AsJson,
    Group,
    Home,
    IndexName,
    WaitSeconds,
    name_is_argument,
    open_index,
    runs_command,
)
from mmsearch.core.display import display_path
from mmsearch.core.errors import StateError
from mmsearch.core.identity import describe_older_model
from mmsearch.core.records import SourceRecord
from mmsearch.core.reports import format_skipped

if TYPE_CHECKING:
    from mmsearch.core.derived import DerivedSummary
    from mmsearch.core.records import FailedFile, IndexCalibration
    from mmsearch.core.results import IndexStatus
    from mmsearch.core.types import EncoderSpec, FusionSpec

MAX_SHOWN_DAMAGED = 5
"""Maximum number of damaged files that the status shows."""

roots_app = typer.Typer(
    cls=Group, help="Show the indexed folders, or set the new location of one, like 'sources'."
)


def status(
    name: IndexName = "default",
    home: Home = None,
    failures: Annotated[
        bool,
        typer.Option("--failures", help="List the files that could not be read, and damaged ones."),
    ] = False,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="List the files that are not read, and why.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what an index holds.

    Example: mmsearch status --failures
    """
    listed: list[FailedFile] = []
    with open_index(name, home) as index:
        index_status = index.status()
        if skipped:
            listed += index.skipped_files()
        if failures:
            listed += index_status.failures
            listed += [replace(file, reason=_damage(file)) for file in index_status.damaged]
    if as_json:
        output.print_json(listed if skipped else index_status)
    elif failures or skipped:
        output.print_table(
            "",
            ["file", "reason"],
            [(display_path(file.path), file.reason) for file in listed],
        )
    else:
        for label, value in _format_status(index_status):
            output.print_line(f"{label:<14}{value}")


def _format_status(index_status: IndexStatus) -> Iterator[tuple[str, str]]:
    yield "index", f"{index_status.name} in {index_status.folder}"
    yield "pictures", f"{index_status.pictures:,} in {index_status.files:,} files"
    if index_status.failures:
        hint = "'mmsearch status --failures' lists them"
        yield "not readable", f"{len(index_status.failures):,} files; {hint}"
    if index_status.damaged:
        hint = "'mmsearch status --failures' lists all"
        yield "damaged", f"{len(index_status.damaged):,} indexed in part; {hint}"
        for file in index_status.damaged[:MAX_SHOWN_DAMAGED]:
            yield "", f"{display_path(file.path)}: {_damage(file)}"
    if index_status.skipped:
        hint = "'mmsearch status --skipped' lists them"
        yield (
            "not read",
            f"{format_skipped(index_status.skipped)}; {hint}".replace(" not read:", ":", 1),
        )
    yield from map(_format_source, index_status.sources)
    if index_status.identity is not None:
        yield from _format_encoder(index_status.identity.encoder)
        yield "fusion", _format_fusion(index_status.identity.fusion)
        yield "texts", ", ".join(index_status.identity.texts) or "none"
        yield "vector index", _format_vector_index(index_status)
        wanted = {work.enricher for work in index_status.derived if work.is_wanted}
        for work in index_status.derived:
            is_earlier = not work.is_wanted and work.enricher in wanted
            yield "described", _format_derived(work, is_earlier=is_earlier)
        if index_status.calibration is not None:
            yield (
                "percentages",
                _format_calibration(
                    index_status.calibration, index_status.identity.encoder.fingerprint
                ),
            )
    yield from index_status.places.items()
    sizes = ", ".join(
        f"{part} {output.human_bytes(size)}" for part, size in index_status.bytes_by_part.items()
    )
    yield "on disk", f"{output.human_bytes(sum(index_status.bytes_by_part.values()))} ({sizes})"
    yield "generation", str(index_status.generation)
    yield from (("writing", writer) for writer in index_status.writers)
    if index_status.last_run is not None:
        run = index_status.last_run
        counts = ", ".join(f"{count:,} {label}" for label, count in run.counts.items() if count)
        if run.finished_at is None:
            yield "last run", f"{run.started_at}, still running or killed"
        else:
            yield "last run", f"{run.started_at}, {run.outcome}: {counts or 'nothing to do'}"


def _format_derived(work: DerivedSummary, *, is_earlier: bool) -> str:
    parts = [f"{work.done:,} done{' with earlier options or models' if is_earlier else ''}"]
    if work.left:
        parts.append(f"{work.left:,} left, some {output.human_duration(work.left_s)} of one core")
    if work.failed:
        parts.append(f"{work.failed:,} could not be read")
    maker = f" ({work.made_by})" if work.made_by else ""
    error = f"; {display_path(work.error)}" if work.error else ""
    return f"{work.enricher}: {', '.join(parts)}{maker}{error}"


def _format_source(source: SourceRecord) -> tuple[str, str]:
    place = f"{source.name}: {display_path(source.uri)}"
    return ("root", place) if source.kind == "folder" else ("source", f"{place} ({source.kind})")


def _format_encoder(encoder: EncoderSpec) -> Iterator[tuple[str, str]]:
    yield "encoder", f"{encoder.name}, {encoder.dim} columns, fingerprint {encoder.fingerprint}"
    if encoder.is_superseded:
        yield "", describe_older_model(encoder)


def _damage(file: FailedFile) -> str:
    return f"damaged: {file.reason}"


def _format_fusion(spec: FusionSpec) -> str:
    if spec.name == "image":
        return "image: texts are searched as words, separately from the vectors"
    kinds = "".join(f", {kind} {weight:g}" for kind, weight in sorted(spec.kind_weights.items()))
    return f"{spec.name}, text weight {spec.text_weight:g}{kinds}"


def _format_calibration(calibration: IndexCalibration, fingerprint: str) -> str:
    if calibration.encoder != fingerprint:
        return "fitted for another model, so not used; run 'mmsearch calibrate'"
    return (
        f"fitted to {calibration.texts:,} texts, {calibration.created_at}; off by "
        f"{calibration.error:.0%} on average"
    )


def _format_vector_index(index_status: IndexStatus) -> str:
    if index_status.built is None:
        return f"not built yet; {index_status.waiting:,} vectors are compared one by one"
    reason = index_status.built.settings.get("reason", "")
    line = f"{index_status.built.plugin_name}, {index_status.built.rows:,} vectors, {reason}"
    return line + (
        f"; {index_status.waiting:,} newer vectors are not in it yet"
        if index_status.waiting
        else ""
    )


def list_all(home: Home = None, as_json: AsJson = False) -> None:
    """List the indexes.

    Example: mmsearch list
    """
    unreadable: list[str] = []
    statuses = api.list_indexes(
        home, on_error=lambda name, error: unreadable.append(f"{name}: {error.command_text}")
    )
    _print_indexes(statuses, as_json=as_json, all_readable=not unreadable)
    output.warn_list(
        f"Could not be read: {len(unreadable):,}", unreadable, "'mmsearch check' says why."
    )
    if unreadable:
        raise typer.Exit(1)


def _print_indexes(statuses: list[IndexStatus], *, as_json: bool, all_readable: bool) -> None:
    if as_json:
        output.print_json(
            [
                {
                    "name": index.name,
                    "folder": index.folder,
                    "pictures": index.pictures,
                    "encoder": index.identity.encoder.name if index.identity else None,
                    "places": index.places,
                }
                for index in statuses
            ]
        )
        return
    if not statuses:
        if all_readable:
            output.warn("There is no index yet; run: mmsearch index FOLDER")
        return
    has_places = any(index.places for index in statuses)
    rows = [
        (
            index.name,
            f"{index.pictures:,}",
            index.identity.encoder.name if index.identity else "-",
            output.human_bytes(sum(index.bytes_by_part.values())),
            index.last_run.started_at if index.last_run else "-",
            *([", ".join(index.places.values()) or "folder"] if has_places else []),
        )
        for index in statuses
    ]
    columns = ["name", "pictures>", "encoder", "on disk>", "last run"]
    output.print_table("", columns + ["places"] * has_places, rows)


def remove(
    name: Annotated[str, typer.Argument(help="Name of the index.", show_default=False)],
    home: Home = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete an index. The pictures are not touched.

    Example: mmsearch remove holiday --yes
    """
    with name_is_argument(), open_index(name, home) as index:
        # If an earlier removal failed, the rest is deleted without another question.
        if index.exists() and not yes:
            picture_note = ""
            # An index that cannot be read can still be deleted.
            with suppress(StateError):
                picture_note = f" of {index.status().pictures:,} pictures"
            question = f"Delete index {name!r}{picture_note} in {index.folder}?"
            typer.confirm(display_path(question), abort=True)
        index.remove()
    output.warn(f"Index {name!r} is deleted; the pictures are untouched.")


@roots_app.callback(invoke_without_command=True)
def roots(
    context: typer.Context,
    name: IndexName = "default",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show the indexed folders.

    Example: mmsearch roots
    """
    if runs_command(context, name, home, as_json=as_json):
        return
    with open_index(name, home) as index:
        index_roots = index.roots()
    if as_json:
        output.print_json(index_roots)
    else:
        output.print_table(
            "", ["name", "folder"], [(root.name, display_path(root.path)) for root in index_roots]
        )


@roots_app.command("set")
def set_root(
    root: Annotated[str, typer.Argument(help="Name of the root.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="New location of the folder.", show_default=False)],
    name: IndexName = "default",
    home: Home = None,
    wait: WaitSeconds = 0.0,
) -> None:
    """Set the new location of an indexed folder; nothing is re-encoded.

    Example: mmsearch roots set photos /mnt/new/photos
    """
    with open_index(name, home) as index:
        updated_root = index.set_root(root, folder, wait_s=wait)
    output.warn(f"Root {updated_root.name!r} is now {display_path(updated_root.path)}.")
