"""The peer clip-retrieval, which embeds whole data sets, with random weights of a model's shape."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.peer_environments import ensure_peer_python

REQUIREMENTS = ("clip-retrieval==2.45.0", "transformers<5", "setuptools<81")
_READ_SCRIPT = """
import sys, pandas
for name in pandas.read_parquet(sys.argv[1])["image_path"]:
    print(name)
"""


@dataclass(frozen=True)
class ClipRetrieval:
    """An installed clip-retrieval.

    Attributes:
        python: Python interpreter of its environment.
        output: Output folder for the vectors.
        model: Model name in its syntax: an architecture of open_clip and a file of weights.
    """

    python: Path
    output: Path
    model: str

    def index(self, folder: Path) -> None:
        """Embed the pictures of a folder with its inference command."""
        shutil.rmtree(self.output, ignore_errors=True)
        command: list[Any] = [self.python, "-m", "clip_retrieval.cli", "inference"]
        command += ["--input_dataset", folder, "--output_folder", self.output]
        command += ["--clip_model", self.model, "--enable_text", "False"]
        command += ["--num_prepro_workers", str(os.cpu_count()), "--batch_size", "32"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        subprocess.run(command, env=environment, capture_output=True, check=True)

    def load_vectors(self) -> dict[str, NDArray[np.float32]]:
        """Return the vectors by file name."""
        (vectors,) = (self.output / "img_emb").glob("*.npy")
        (metadata_file,) = (self.output / "metadata").glob("*.parquet")
        command = [self.python, "-c", _READ_SCRIPT, metadata_file]
        names = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        file_names = [Path(name).name for name in names.splitlines()]
        return dict(zip(file_names, np.load(vectors).astype(np.float32), strict=True))


def make_clip_retrieval(folder: Path, architecture: str, weights: Path) -> ClipRetrieval:
    """Install clip-retrieval.

    Args:
        folder: Output folder for the vectors.
        architecture: Architecture of open_clip.
        weights: Weights of that architecture.

    Raises:
        PeerUnavailableError: pip cannot install it.
    """
    python = ensure_peer_python("clip-retrieval", REQUIREMENTS)
    return ClipRetrieval(python, folder / "clip-retrieval", f"open_clip:{architecture}/{weights}")
