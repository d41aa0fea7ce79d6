"""A power cut after any system call of a writer loses nothing that was acknowledged.

The writer indexes, removes, compacts and indexes again. The same check must fail for writers that
do not sync, let SQLite sync less, or write the vector index in place; else it proves nothing.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmsearch.core.errors import MMSearchError
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from tests.faults.power_cut import Disk, record
from tests.index_contents import load_stored_files
from tests.toy_index import ToyEncoder, seeded_pixels, toy_engine, toy_indexer

HERE = Path(__file__).resolve().parents[2]
MODELS = ("all", "strict", "random")
FINISHED_EVERY = 12
"""Interval of the cuts after which another run is checked too, which takes longer."""


def can_trace():
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is not here, or may not trace")


def calls_of(folder, mutant=""):
    environment = {**os.environ, "MUTANT": mutant, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "tests.faults.toy_writer", str(folder)]
    return record(command, folder.with_suffix(".strace"), cwd=HERE, env=environment)


def failures(folder, mutant, models, rng=None):
    """Cut the power after each call under each model; return faults and number of cuts."""
    rng = rng or random.Random(4)
    folder.mkdir()
    disk, cuts, wrong = Disk(folder / "index"), 0, []
    image = folder / "after"
    for call in calls_of(folder, mutant):
        changed = disk.apply(call)
        if not changed:
            continue
        for model in models:
            cuts += 1
            lay_out(disk, disk.state_after_cut(model, rng), image)
            reason = fault_in(
                IndexLayout(image), disk.acknowledged, folder / "photos", cuts % FINISHED_EVERY == 0
            )
            if reason:
                wrong.append((model, call.name, reason))
    return wrong, cuts


def lay_out(disk, content, image):
    shutil.rmtree(image, ignore_errors=True)
    for part in ("segments", "ann"):
        (image / part).mkdir(parents=True)
    for name, data in content.items():
        path = image / os.fsdecode(os.path.relpath(name, disk.root))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def expected(acknowledged):
    kept, going = set(), set()
    for line in acknowledged:
        facts = json.loads(line)
        kept |= set(facts.get("kept", ()))
        going |= set(facts.get("going", ()))
    return kept - going


def fault_in(layout, acknowledged, photos, finish):
    must = expected(acknowledged)
    if not layout.exists():
        return f"no catalog, but {must} was acknowledged" if must else None
    try:
        return fault_of_content(layout, must) or (finish and fault_of_next_run(layout, photos))
    except MMSearchError as error:
        return str(error)


def fault_of_content(layout, must):
    held = vectors_of(layout)
    if must - set(held):
        return f"{must - set(held)} was acknowledged and is lost"
    for name, vector in held.items():
        true = ToyEncoder().encode("text", [seeded_pixels(Path(name).stem.encode())])[0]
        if vector @ true < 0.999:
            return f"{name} has the vector of another picture"
    if held:
        name = min(held)
        with toy_engine(layout) as engine:
            best = engine.search_text(Path(name).stem, 1).hits[0]
        return None if best.path.name == name else f"{name} is not found"
    return None


def fault_of_next_run(layout, photos):
    with toy_indexer(layout, vector_index="faiss_flat") as indexer:
        indexer.run(IndexRequest(os.fsencode(photos)))
    there = {path.name for path in photos.iterdir()}
    return None if set(vectors_of(layout)) == there else "the next run does not complete"


def vectors_of(layout):
    with catalogs.open_read(layout) as catalog:
        held = load_stored_files(layout, catalog)
    return {os.fsdecode(path): vector for path, (_, vector) in held.items()}


def test_power_cut_after_any_call_loses_no_acknowledged_picture(tmp_path):
    wrong, cuts = failures(tmp_path / "right", "", MODELS)
    assert not wrong, wrong[:5]
    assert cuts > 500


@pytest.mark.parametrize("mutant", ["no-fsync", "synchronous-normal", "in-place"])
def test_power_cut_check_detects_writer_with_broken_commit_protocol(tmp_path, mutant):
    wrong, _ = failures(tmp_path / "broken", mutant, ["strict"])
    assert wrong


def test_process_kill_alone_does_not_reveal_missing_fsync(tmp_path):
    wrong, _ = failures(tmp_path / "broken", "no-fsync", ["all"])
    assert not wrong
