"""The peer rclip, the most similar command-line tool, with random weights in its model's shape."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from benchmarks.speed.peer_environments import ensure_peer_python

VERSION = "3.3.0"
ARCHITECTURE = "ViT-B-32-256"
"""Name of rclip's only model in open_clip. rclip ships it as ONNX in float32."""

_MODEL_FOLDER = "ViT-B-32-256-datacomp_s34b_b86k"
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_OPSET = 18


@dataclass(frozen=True)
class Rclip:
    """An installed rclip with a model and a database of its own.

    Attributes:
        python: Python interpreter of its environment.
        data: Its data folder, with the model and the database.
        weights: Weights of the same model for `open_clip:ARCH@FILE`.
    """

    python: Path
    data: Path
    weights: Path

    @property
    def model(self) -> str:
        """Name of the same model in mmsearch."""
        return f"open_clip:{ARCHITECTURE}@{self.weights}"

    def index(self, folder: Path) -> None:
        """Index the pictures of a folder, as the first query there does.

        rclip has no command that only indexes, so it also runs one query at the end.
        """
        self._run(["a", "--top", "1"], folder)

    def query(self, text: str, folder: Path, k: int) -> list[Path]:
        """Return the indexed pictures of a folder that match a text best."""
        output = self._run([text, "--top", str(k), "--filepath-only", "--no-indexing"], folder)
        return [Path(line) for line in output.splitlines()]

    def clear_database(self) -> None:
        """Remove its database, so that all pictures are new again."""
        for file in self.data.glob("db.sqlite3*"):
            file.unlink()

    def fill_index(self, rows: Iterable[tuple[Path, NDArray[np.float32]]]) -> None:
        """Create a database of pictures without files and their vectors, (512,)."""
        self.clear_database()
        script = "from rclip.db import DB; import sys; DB(sys.argv[1]).close()"
        database = self.data / "db.sqlite3"
        subprocess.run([self.python, "-c", script, database], check=True, capture_output=True)
        connection = sqlite3.connect(database)
        with connection:
            connection.executemany(
                "INSERT INTO images (filepath, modified_at, size, vector, hash)"
                " VALUES (?, 1.0, 1, ?, '')",
                ((str(path), vector.tobytes()) for path, vector in rows),
            )
        connection.close()

    def _run(self, arguments: list[str], folder: Path) -> str:
        environment = os.environ | {"RCLIP_DATADIR": str(self.data), "HF_HUB_OFFLINE": "1"}
        command: list[Any] = [self.python, "-m", "rclip", *arguments]
        process = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, check=True, text=True
        )
        return process.stdout


def make_rclip(folder: Path) -> Rclip:
    """Install rclip, and store random weights of its model in the place that it reads.

    Args:
        folder: Its data folder, which takes 1 GB.

    Raises:
        PeerUnavailableError: pip cannot install it.
    """
    python = ensure_peer_python("rclip", [f"rclip=={VERSION}"])
    torch.manual_seed(0)
    model = open_clip.create_model(ARCHITECTURE).eval()
    data = folder / "rclip"
    towers = data / _MODEL_FOLDER
    vocabulary = data / "tokenizer" / _VOCABULARY
    for needed in (towers, vocabulary.parent):
        needed.mkdir(parents=True)
    edge = model.visual.image_size[0]
    _export(_Images(model), torch.zeros(1, 3, edge, edge), towers / "visual.onnx")
    tokens = open_clip.get_tokenizer(ARCHITECTURE)(["a red car"])
    _export(_Texts(model), tokens, towers / "textual.onnx")
    shutil.copyfile(Path(open_clip.__file__).parent / _VOCABULARY, vocabulary)
    weights = folder / f"{ARCHITECTURE}.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, weights)
    return Rclip(python, data, weights)


class _Images(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.model.encode_image(pixels)
        return vectors


class _Texts(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.model.encode_text(tokens)
        return vectors


def _export(tower: torch.nn.Module, sample: torch.Tensor, path: Path) -> None:
    """Export a tower with the tracing exporter, which rclip's own files were made with."""
    fast = torch.backends.mha.get_fastpath_enabled()
    # The fast path is a fused operator that ONNX does not support.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                tower,
                (sample,),
                path,
                input_names=["input"],
                output_names=["output"],
                dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                opset_version=_OPSET,
                dynamo=False,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
