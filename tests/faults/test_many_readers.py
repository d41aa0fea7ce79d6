"""Eight processes query while the index is filled, compacted and re-encoded."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

import mmsearch as library
from tests.faults.conftest import COMMAND

READERS = 8
READER = """
import json, sys, time
from pathlib import Path
import mmsearch
home, stop = sys.argv[1], Path(sys.argv[2])
answers = []
with mmsearch.open_index(home=home) as index:
    while not stop.exists():
        query = mmsearch.Query((mmsearch.Term("a dog"),))
        result = index.query(mmsearch.SearchRequest(query, 500, fold=False))
        ids = [hit.id for hit in result.hits]
        assert len(ids) == len(set(ids)) == result.pictures == result.passed, result
        assert all(a.score >= b.score for a, b in zip(result.hits, result.hits[1:]))
        answers.append((result.generation, result.pictures, result.encoder))
        time.sleep(0.3)
print(json.dumps(answers))
"""


@pytest.fixture
def readers(environment, tmp_path):
    """Functions that start readers, and that stop them and return their answers."""
    stop, started = tmp_path / "stop", []

    def start(home):
        started.extend(
            subprocess.Popen(
                [sys.executable, "-c", READER, home, stop],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            for _ in range(READERS)
        )

    def finish():
        stop.touch()
        seen = []
        for process in started:
            out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err.decode()
            seen.append(json.loads(out))
        return seen

    yield start, finish
    for process in started:
        process.kill()


def test_query_during_writes_answers_from_one_generation(
    readers, few_photos, photos, mmsearch, tiny_clip, tmp_path
):
    start, finish = readers
    home, folder = tmp_path / "home", tmp_path / "photos"
    shutil.copytree(few_photos, folder)
    mmsearch("index", folder, "--home", home, "--model", "starter", code=3)
    start(home)
    time.sleep(3)
    for path in sorted(photos.rglob("*.jpg"))[24:80]:
        shutil.copy2(path, folder)
    mmsearch("index", folder, "--home", home)
    for path in sorted(folder.glob("*.jpg"))[:20]:
        path.unlink()
    mmsearch("index", folder, "--home", home)
    mmsearch("compact", "--home", home)
    mmsearch("reindex", "--home", home, "--model", tiny_clip)
    time.sleep(2)
    seen = finish()
    for answers in seen:
        generations = [generation for generation, _, _ in answers]
        assert generations == sorted(generations)
        assert answers[0][2] == "starter"
        assert answers[-1][2] != "starter"
    by_generation = {}
    for generation, pictures, encoder in (answer for answers in seen for answer in answers):
        by_generation.setdefault(generation, set()).add((pictures, encoder))
    assert all(len(states) == 1 for states in by_generation.values())
    assert len(by_generation) >= 5


def test_index_lock_of_killed_holder_is_released(few_photos, environment, mmsearch, tmp_path):
    done = subprocess.run(
        [COMMAND, "index", few_photos, "--home", tmp_path, "--model", "starter"],
        env=environment | {"MMSEARCH_FAULT": "file_published:2"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9
    assert json.loads((tmp_path / "default" / "lock.holder").read_text())["pid"]
    mmsearch("index", few_photos, "--home", tmp_path, code=3)


def test_reader_opened_before_encoder_change_answers_with_new_encoder(
    few_photos, mmsearch, tiny_clip, tmp_path
):
    mmsearch("index", few_photos, "--home", tmp_path, "--model", "starter", code=3)
    with library.open_index(home=tmp_path) as index:
        before = index.search("a dog", k=100, fold=False)
        mmsearch("reindex", "--home", tmp_path, "--model", tiny_clip)
        after = index.search("a dog", k=100, fold=False)
    assert {hit.id for hit in before} == {hit.id for hit in after}
    assert [hit.score for hit in before] != [hit.score for hit in after]
    assert os.path.exists(after[0].path)
