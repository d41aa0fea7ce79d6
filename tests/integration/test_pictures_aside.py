"""Pictures outside a run: what breaks their decoder must not break the asking process."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mmsearch.core.errors import DecodeError, SourceError
from mmsearch.core.settings import load_settings
from mmsearch.executors import processes
from mmsearch.factories.search import picture_reader
from mmsearch.search.image_loader import PictureReader
from tests.toy import ToyEncoder


@dataclass(frozen=True)
class Treacherous:
    """Reads everything, in its own way."""

    def claims(self, path):
        return path.endswith(b".jpg")

    def read(self, path, edge_px):
        if b"crash" in path:
            os.abort()
        if b"hang" in path:
            time.sleep(60)
        if b"greed" in path:
            return bytearray(10**12)
        raise DecodeError("it is damaged")

    def thumbnail(self, path, edge_px, file_format="JPEG"):
        self.read(path, edge_px)


@pytest.fixture(scope="module")
def reader():
    reader = PictureReader(lambda: (Treacherous(),), lambda: processes.build(1, 2.0, 1000))
    yield reader
    reader.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash.jpg", "the decoder crashed on it"),
        ("hang.jpg", "decoding took longer than 2 seconds"),
        ("greed.jpg", "it takes more than 1000 MB of memory"),
        ("broken.jpg", "it is damaged"),
        ("nameless", "it is damaged"),
    ],
)
def test_it_costs_a_sentence(reader, name, reason):
    with pytest.raises(DecodeError, match=reason):
        reader.thumbnail(name.encode(), 64)
    with pytest.raises(SourceError, match=reason):
        reader.prepared(Path(name), ToyEncoder().image_preparation)


def test_a_closed_reader_starts_again(photos):
    reader = picture_reader(load_settings())
    path = os.fsencode(next(photos.rglob("*.jpg")))
    for _ in range(2):
        assert reader.thumbnail(path, 64).startswith(b"\xff\xd8\xff")
        reader.close()


def test_a_program_that_closes_nothing_ends(photos):
    path = next(photos.rglob("*.jpg"))
    program = (
        "from mmsearch.factories.search import picture_reader;"
        "from mmsearch.core.settings import load_settings;"
        f"print(len(picture_reader(load_settings()).thumbnail({os.fsencode(path)!r}, 64)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert int(done.stdout) > 100


def test_threads_that_begin_together_share_one_executor():
    made = []

    class Echo:
        def run(self, make_worker, tasks):
            yield from ((task, b"content") for task in tasks)

        def close(self):
            pass

    def make_executor():
        time.sleep(0.05)
        made.append(Echo())
        return made[-1]

    together = PictureReader(lambda: (Treacherous(),), make_executor)
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: together.thumbnail(b"a.jpg", 64), range(8)))
    assert (told, len(made)) == ([b"content"] * 8, 1)
