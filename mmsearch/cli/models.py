"""``mmsearch models``: list encoders, prepare them, and choose the one for new indexes."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import AsJson, Device, Group, check_device
from mmsearch.cli.output import warn
from mmsearch.core.settings import load_settings

app = typer.Typer(cls=Group, help="Show, choose and prepare models.", no_args_is_help=True)

Model = Annotated[
    str,
    typer.Argument(help="starter, open_clip:ARCH/TAG or open_clip:ARCH@FILE.", show_default=False),
]


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List models, whether their weights are on this machine, and which one new indexes use.

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
            model.dim or "",
            "yes" if model.local else "no",
            "yes" if model.compiled else "no",
            model.summary,
        )
        for model in models
    ]
    output.print_table("", ["model", "dim>", "here", "compiled", "about"], rows)
    warn(f"New indexes use: {default_model}. Change it with: mmsearch models use MODEL")


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

    Example: mmsearch models use open_clip:ViT-B-32-256/datacomp_s34b_b86k
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
    text = encoder.prepare(InputKind.TEXT, "a photo of a dog")
    image = encoder.prepare(InputKind.IMAGE, np.zeros((64, 64, 3), dtype=np.uint8))
    encoder.encode(InputKind.TEXT, [text])
    encoder.encode(InputKind.IMAGE, [image])
    warn(
        f"{encoder.spec.name} is ready after {time.monotonic() - started_s:.1f} s; text on "
        f"{encoder.device(InputKind.TEXT)}, images on {encoder.device(InputKind.IMAGE)}."
    )
