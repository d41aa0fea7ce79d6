"""A few photographs, the result of an undisturbed run, and ways to disturb a writer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mmsearch as library
from mmsearch.core.settings import load_settings
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import load_stored_files
from tests.toy_index import make_toys, replaced

COMMAND = Path(sys.executable).with_name("mmsearch")
FEW = 24


@pytest.fixture(scope="session")
def few_photos(photos, tmp_path_factory):
    """A folder of some photographs, one of them in two places, and one broken file."""
    folder = tmp_path_factory.mktemp("few") / "photos"
    folder.mkdir()
    chosen = sorted(photos.rglob("*.jpg"))[:FEW]
    for path in chosen:
        shutil.copy2(path, folder / path.name)
    shutil.copy2(chosen[0], folder / "copy.jpg")
    (folder / "broken.jpg").write_bytes(chosen[1].read_bytes()[:100])
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return folder


@pytest.fixture(scope="session")
def run_indexer(forked_command, environment):
    """Function: run the command until it ends or is killed; its environment may choose toys."""

    def run(folder, home, **variables):
        return subprocess.run(
            [forked_command, "index", folder, "--home", home, "--workers", "1"],
            env=environment | {"MMSEARCH_MODEL": "starter"} | variables,
            capture_output=True,
            timeout=300,
            check=False,
        )

    return run


def content_of(home, name="default"):
    """Read digest, error and vector of each path directly from the files of an index."""
    layout = IndexLayout(home / name)
    with catalogs.open_read(layout) as catalog:
        return {
            path: (file.digest, file.error, vector)
            for path, (file, vector) in load_stored_files(layout, catalog).items()
        }


def same(one, other):
    """Return True if two such contents are equal, vectors within the precision of storage."""
    return set(one) == set(other) and all(
        one[path][:2] == other[path][:2]
        and (one[path][2] is None) == (other[path][2] is None)
        and (one[path][2] is None or np.allclose(one[path][2], other[path][2], atol=2e-3))
        for path in one
    )


def index_in_process(folder, home):
    """Index a folder in this process, which keeps the encoder loaded."""
    settings = load_settings().with_flags(workers=1)
    with library.open_index(home=home, settings=settings) as index:
        return index.add_folder(folder)


@pytest.fixture(scope="session")
def undisturbed(few_photos, mmsearch, tmp_path_factory):
    """Content of an index that an undisturbed run has made of the photographs."""
    home = tmp_path_factory.mktemp("undisturbed")
    mmsearch("models", "compile", "starter")
    mmsearch("index", few_photos, "--home", home, "--model", "starter", code=3)
    return content_of(home)


TOYS = {"MMSEARCH_TEST_TOYS": "1", "MMSEARCH_MODEL": "auto"}
"""Variables with which `run_indexer` indexes toys, in a tenth of the time."""


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """A folder of some toys, one of them in two places, and one broken file."""
    folder = tmp_path_factory.mktemp("toys") / "photos"
    folder.mkdir()
    for number in range(FEW):
        (folder / f"{number:02}.toy").write_text(str(number))
    (folder / "copy.toy").write_text("0")
    (folder / "broken.toy").write_text("bad")
    for path in folder.iterdir():
        os.utime(path, ns=(10**18, 10**18))
    return folder


@pytest.fixture(scope="session")
def undisturbed_toys(toy_folder, run_indexer, tmp_path_factory):
    """Content of an index that an undisturbed run has made of the toys."""
    home = tmp_path_factory.mktemp("undisturbed")
    done = run_indexer(toy_folder, home, **TOYS)
    assert done.returncode == 3, done.stderr
    return content_of(home)


@pytest.fixture
def few_toys(toy_folder):
    """The folder of toys; meanwhile, this process reads and encodes toys."""
    with replaced(make_toys()):
        yield toy_folder


def verify(home, undisturbed):
    """Assert that an index is sound, searchable and correct; return its number of pictures."""
    layout = IndexLayout(home / "default")
    if not layout.exists():
        return 0
    with library.open_index(home=home) as index:
        assert index.check().verdict == "sound"
        held = content_of(home)
        pictures = {path: row for path, (_, error, row) in held.items() if error is None}
        for path, row in pictures.items():
            assert np.allclose(row, undisturbed[path][2], atol=2e-3), path
        if pictures:
            hits = index.search("a photograph", k=100, fold=False)
            assert {os.fsencode(p.name) for h in hits for p in (h.path, *h.copies)} == set(pictures)
        return len(pictures)
