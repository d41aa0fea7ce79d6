"""``mmsearch models``: which encoders there are, and which one new indexes use."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from mmsearch import api
from mmsearch.cli import output
from mmsearch.cli.options import AsJson, Device, check_device
from mmsearch.cli.output import warn
from mmsearch.core.settings import load_settings

app = typer.Typer(help="Show, choose and prepare models.", no_args_is_help=True)

Model = Annotated[
    str,
    typer.Argument(help="starter, open_clip:ARCH/TAG or open_clip:ARCH@FILE.", show_default=False),
]


@app.command("list")
def list_all(as_json: AsJson = False) -> None:
    """List models, whether their weights are on this machine, and which one new indexes use.

    Example: mmsearch models list
    """
    found = api.list_models()
    chosen = load_settings().model
    if as_json:
        output.print_json({"model": chosen, "models": found})
        return
    rows = [
        (
            ("* " if model.name == chosen else "") + model.name,
            model.dim or "",
            "yes" if model.local else "no",
            "yes" if model.compiled else "no",
            model.summary,
        )
        for model in found
    ]
    output.print_table("", ["model", "dim>", "here", "compiled", "about"], rows)
    warn(f"New indexes use: {chosen}. Change it with: mmsearch models use MODEL")


@app.command("info")
def info(model: Model, device: Device = None, as_json: AsJson = False) -> None:
    """Show what a model is.

    Example: mmsearch models info starter
    """
    from mmsearch.core.types import Kind

    encoder = api.open_model(model, device=check_device(device), say=warn)
    spec = encoder.spec
    facts = {
        "name": spec.name,
        "fingerprint": spec.fingerprint,
        "dim": spec.dim,
        "context_length": spec.context_length,
        "preprocessing": dict(spec.preprocessing),
        "weights_sha256": spec.weights_sha256,
        "text_runs": encoder.device(Kind.TEXT),
        "images_run": encoder.device(Kind.IMAGE),
    }
    if as_json:
        output.print_json(facts)
        return
    for label, value in facts.items():
        output.print_line(f"{label:<16}{value}")


@app.command("use")
def use(model: Model) -> None:
    """Make a model the one of new indexes, after making sure that it can be had.

    Example: mmsearch models use open_clip:ViT-B-32-256/datacomp_s34b_b86k
    """
    path = api.use_model(model, say=warn)
    warn(f"New indexes use {model!r} (kept in {path}). Indexes that exist keep their own.")


@app.command("compile")
def compile_(model: Model, device: Device = None) -> None:
    """Prepare a model now, so that the first index and the first query do not wait for it.

    Example: mmsearch models compile starter
    """
    import numpy as np

    from mmsearch.core.types import Kind

    began = time.monotonic()
    encoder = api.open_model(model, device=check_device(device), say=warn)
    text = encoder.prepare(Kind.TEXT, "a photo of a dog")
    image = encoder.prepare(Kind.IMAGE, np.zeros((64, 64, 3), dtype=np.uint8))
    encoder.encode(Kind.TEXT, [text])
    encoder.encode(Kind.IMAGE, [image])
    warn(
        f"{encoder.spec.name} is ready after {time.monotonic() - began:.1f} s; text on "
        f"{encoder.device(Kind.TEXT)}, images on {encoder.device(Kind.IMAGE)}."
    )
