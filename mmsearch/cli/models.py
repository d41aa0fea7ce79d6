"""``mmsearch models``: list, pull, prepare and move encoders, and choose that of new indexes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mmsearch import api
from mmsearch.cli import output, pull
from mmsearch.cli.options import AsJson, Device, Group, check_device
from mmsearch.cli.output import human_bytes, warn
from mmsearch.core.display import display_path
from mmsearch.core.settings import load_settings

app = typer.Typer(cls=Group, help="Show, pull, choose and move models.", no_args_is_help=True)

Model = Annotated[
    str,
    typer.Argument(
        help="starter, open_clip:ARCH/TAG, open_clip:ARCH@FILE or adapted:FILE.", show_default=False
    ),
]


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List models: which are ready on this machine, their licences, languages and sizes.

    Example: mmsearch models list
    """
    models = api.list_models()
    default_model = load_settings().model
    if as_json:
        output.print_json({"model": default_model, "models": models})
        return
    rows = [
        (
            ("* " if model.name == default_model else "") + model.name,
            "ready" if model.compiled else "here" if model.local else "",
            human_bytes(model.download_bytes) if model.download_bytes else "",
            model.licence or "",
            model.languages or "",
            model.summary,
        )
        for model in models
    ]
    columns = ["model", "state", "download>", "licence", "languages", "about"]
    output.print_table("", columns, rows)
    warn(f"New indexes use: {default_model}. Get a model with: mmsearch models pull MODEL")


app.command("pull")(pull.pull)


@app.command("info")
def info(model: Model, device: Device = None, as_json: AsJson = False) -> None:
    """Show the details of a model.

    Example: mmsearch models info starter
    """
    from mmsearch.core.types import InputKind

    encoder = api.open_model(model, device=check_device(device), on_message=warn)
    spec = encoder.spec
    details = {
        "name": spec.name,
        "fingerprint": spec.fingerprint,
        "dim": spec.dim,
        "context_length": spec.context_length,
        "preprocessing": dict(spec.preprocessing),
        "weights_sha256": spec.weights_sha256,
        "text_runs": encoder.device(InputKind.TEXT),
        "images_run": encoder.device(InputKind.IMAGE),
    }
    if as_json:
        output.print_json(details)
        return
    for label, value in details.items():
        output.print_line(f"{label:<16}{value}")


@app.command("use")
def use_model(model: Model) -> None:
    """Use a model for new indexes, after checking that it is available.

    Example: mmsearch models use open_clip:ViT-B-32-SigLIP2-256/webli
    """
    path = api.use_model(model, on_message=warn)
    warn(f"New indexes use {model!r} (saved in {path}). Existing indexes keep their model.")


@app.command("compile")
def compile_model(model: Model, device: Device = None) -> None:
    """Prepare a model now, so that the first index and the first query do not wait for it.

    Example: mmsearch models compile starter
    """
    import numpy as np

    from mmsearch.core.types import InputKind

    started_s = time.monotonic()
    encoder = api.open_model(model, device=check_device(device), on_message=warn)
    texts = [encoder.prepare(InputKind.TEXT, "a photo of a dog")]
    if hasattr(encoder, "prepare_query"):
        # A tower for other languages is compiled as well.
        texts.append(encoder.prepare_query("ein Foto von einem Hund"))
    image = encoder.prepare(InputKind.IMAGE, np.zeros((64, 64, 3), dtype=np.uint8))
    encoder.encode(InputKind.TEXT, texts)
    encoder.encode(InputKind.IMAGE, [image])
    warn(
        f"{encoder.spec.name} is ready after {time.monotonic() - started_s:.1f} s; text on "
        f"{encoder.device(InputKind.TEXT)}, images on {encoder.device(InputKind.IMAGE)}."
    )


@app.command("export")
def export_model(
    file: Annotated[Path, typer.Argument(help="File to write.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to export.", metavar="NAME", show_default="the one for new indexes"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a compiled model into one file, for a machine without internet.

    Example: mmsearch models export model.tar
    """
    archive = api.export_model(file, model, on_message=warn)
    if as_json:
        output.print_json(archive)
        return
    warn(
        f"{archive.name} is in {display_path(archive.path)} ({human_bytes(archive.bytes)}). On the "
        f"other machine: mmsearch models import {display_path(archive.path.name)}"
    )


@app.command("import")
def import_model(
    file: Annotated[
        Path, typer.Argument(help="File of 'mmsearch models export'.", show_default=False)
    ],
    as_json: AsJson = False,
) -> None:
    """Install the model in a file, after its checksums are verified and it has run once.

    Example: mmsearch models import model.tar
    """
    archive = api.import_model(file)
    if as_json:
        output.print_json(archive)
        return
    warn(
        f"{archive.name} is ready ({human_bytes(archive.bytes)}). Use it for new indexes with "
        f"'mmsearch models use {archive.name}', and in an existing one with "
        f"'mmsearch reindex --model {archive.name}'."
    )
