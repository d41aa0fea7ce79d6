"""An indexer that is killed inside a long film leaves nothing of it; the next run reads it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmsearch as library
from mmsearch.core.settings import Settings
from mmsearch.maintenance.check import check
from mmsearch.storage.layout import IndexLayout
from tests import films

pytest.importorskip("av")

COMMAND = Path(sys.executable).with_name("mmsearch")
SHOTS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    """A folder with ten photographs and a film of more than three windows of decoding."""
    folder = tmp_path_factory.mktemp("killed")
    pictures = sorted((photos / "photos").glob("*.jpg"))
    for path in pictures[:10]:
        shutil.copy2(path, folder)
    films.write_film(folder / "long.mp4", pictures[:SHOTS], seconds=2, size=(160, 90), fps=5)
    return folder


def test_indexer_killed_inside_a_film_loses_no_other_file(mmsearch, folder, environment, tmp_path):
    mmsearch("models", "compile", "starter")
    home = tmp_path / "home"
    layout = IndexLayout(home / "default")
    for delay_s in (0.0, 1.0, 3.0):
        command = [COMMAND, "index", folder, "--home", home, "--model", "starter"]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # The writer of the first segment has begun.
        while process.poll() is None and not list(layout.folder.glob("segments/*")):
            time.sleep(0.02)
        time.sleep(delay_s)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        settings = Settings(home=home, device="cpu")
        report = check(layout, settings, lambda message: None, sources=False, content=False)
        assert report.verdict == "sound", report.findings
    report = json.loads(mmsearch("index", folder, "--home", home, "--json").out)["report"]
    assert report["failed"] == []
    with library.open_index(home=home) as index:
        assert index.status().pictures == 11
        hit = index.similar(sorted(folder.glob("*.jpg"))[3])[1]
        assert (hit.path.name, hit.start_s) == ("long.mp4", 6.0)
    assert not list(layout.folder.rglob("*.tmp"))
