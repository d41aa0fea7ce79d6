"""Pictures read outside an index run: a decoder crash must not affect the calling process."""

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
from mmsearch.core.types import WHOLE
from mmsearch.executors import processes
from mmsearch.factories.search import make_image_loader
from mmsearch.search.image_loader import SandboxedImageLoader
from tests.toy_index import ToyEncoder


@dataclass(frozen=True)
class HostileModality:
    """Modality that crashes, hangs, wastes memory or fails, depending on the file name."""

    missing_extra = None

    def can_read(self, path):
        return path.endswith(b".jpg")

    def recognizes(self, head):
        return False

    def items(self, path, edge_px, first_part=0, known=WHOLE):
        if b"crash" in path:
            os.abort()
        if b"hang" in path:
            time.sleep(60)
        if b"greed" in path:
            return bytearray(10**12)
        raise DecodeError("it is damaged")

    def thumbnail(self, path, edge_px, file_format="JPEG", locator=WHOLE):
        self.items(path, edge_px)


@pytest.fixture(scope="module")
def loader():
    loader = SandboxedImageLoader(
        lambda: (HostileModality(),), lambda: processes.build(1, 2.0, 1000)
    )
    yield loader
    loader.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash.jpg", "the decoder crashed"),
        ("hang.jpg", "decoding took longer than 2 seconds"),
        ("greed.jpg", "decoding took more than 1000 MB of memory"),
        ("broken.jpg", "it is damaged"),
        ("nameless", "it is damaged"),
    ],
)
def test_image_loader_failing_decoder_raises_error_with_reason(
    loader, tmp_path, monkeypatch, name, reason
):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"content")
    with pytest.raises(DecodeError, match=reason):
        loader.thumbnail(name.encode(), 64)
    with pytest.raises(SourceError, match=reason):
        loader.load(Path(name), ToyEncoder().image_preprocessor)


def test_image_loader_used_after_close_starts_again(photos):
    loader = make_image_loader(load_settings())
    path = os.fsencode(next(photos.rglob("*.jpg")))
    for _ in range(2):
        assert loader.thumbnail(path, 64).startswith(b"\xff\xd8\xff")
        loader.close()


def test_program_that_leaves_image_loader_open_exits_cleanly(photos):
    path = next(photos.rglob("*.jpg"))
    program = (
        "from mmsearch.factories.search import make_image_loader;"
        "from mmsearch.core.settings import load_settings;"
        f"print(len(make_image_loader(load_settings()).thumbnail({os.fsencode(path)!r}, 64)))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert (completed.returncode, completed.stderr) == (0, b"")
    assert int(completed.stdout) > 100


def test_image_loader_concurrent_first_calls_share_one_executor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.jpg").write_bytes(b"content")
    executors = []

    class EchoExecutor:
        def run(self, make_worker, tasks):
            yield from ((task, b"content") for task in tasks)

        def close(self):
            pass

    def make_executor():
        time.sleep(0.05)
        executors.append(EchoExecutor())
        return executors[-1]

    loader = SandboxedImageLoader(lambda: (HostileModality(),), make_executor)
    with ThreadPoolExecutor(8) as pool:
        thumbnails = list(pool.map(lambda _: loader.thumbnail(b"a.jpg", 64), range(8)))
    assert (thumbnails, len(executors)) == ([b"content"] * 8, 1)
