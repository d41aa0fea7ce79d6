"""clip-retrieval builds its index from our export, and its back end finds the pictures in it.

Its requirements conflict with ours (numpy below 2, pyarrow below 16), so that it has an environment
of its own: that of the benchmarks, or the Python interpreter in $MMSEARCH_TEST_CLIP_RETRIEVAL. Make
one with the packages of `benchmarks.speed.clip_retrieval.REQUIREMENTS` (6 GB).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pyarrow import parquet

import mmsearch as library
from benchmarks.speed.clip_retrieval import REQUIREMENTS
from benchmarks.speed.peer_environments import find_peer_python

pytestmark = pytest.mark.clip_retrieval

PYTHON = os.environ.get("MMSEARCH_TEST_CLIP_RETRIEVAL") or find_peer_python(
    "clip-retrieval", REQUIREMENTS
)
SEARCHED = 20

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from clip_retrieval import clip_index
import clip_retrieval.clip_back
back = sys.modules["clip_retrieval.clip_back"]  # the attribute is a function of that name
export, index, searched = sys.argv[1:]
sys.modules["clip_retrieval.clip_index"].clip_index(export, index, nb_cores=1)
metadata = back.ParquetMetadataProvider(index + "/metadata")
found = {}
for kind, folder in (("image", "img_emb"), ("text", "text_emb")):
    vectors = np.load(f"{export}/{folder}/{folder}_0000.npy").astype("float32")[:int(searched)]
    _, rows = back.load_index(f"{index}/{kind}.index", False).search(vectors, 1)
    columns = ["image_path", "caption"]
    found[kind] = [
        {"image_path": row["image_path"], "caption": row["caption"]}
        for row in metadata.get(rows[:, 0].tolist(), columns)
    ]
print("FOUND" + json.dumps(found))
"""


@pytest.fixture
def python():
    if PYTHON is None:
        pytest.skip("there is no environment of clip-retrieval; see the docstring of this module")
    return PYTHON


def test_clip_retrieval_finds_every_exported_picture_by_its_vectors(
    python, photo_index, photos, tmp_path
):
    home = tmp_path / "home"
    shutil.copytree(photo_index, home)
    rows = [f"photos/{path.name},picture {path.stem}" for path in (photos / "photos").iterdir()]
    table = tmp_path / "captions.csv"
    table.write_text("path,caption\n" + "\n".join(rows) + "\n")
    with library.open_index(home=home) as index:
        index.add_folder(photos, captions=table)
        index.export(tmp_path / "export", format="clip-retrieval")
    done = subprocess.run(
        [python, "-c", SCRIPT, tmp_path / "export", tmp_path / "clip_index", str(SEARCHED)],
        env={name: os.environ[name] for name in ("PATH", "HOME")} | {"WANDB_MODE": "disabled"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("FOUND"))
    found = json.loads(line.removeprefix("FOUND"))
    metadata = parquet.read_table(tmp_path / "export" / "metadata" / "metadata_0000.parquet")
    paths = metadata["image_path"].to_pylist()[:SEARCHED]
    assert len(set(paths)) == SEARCHED
    expected = [{"image_path": path, "caption": f"picture {Path(path).stem}"} for path in paths]
    assert found == {"image": expected, "text": expected}
