"""Files outside of runs: formats of originals, and pictures to search by."""

from contextlib import closing
from pathlib import Path

import pytest

from mmsearch.core.errors import SourceError
from mmsearch.executors import threads
from mmsearch.search.image_loader import SandboxedImageLoader
from tests.toy_index import ToyNoteModality, ToyPreprocess


@pytest.fixture
def loader():
    loader = SandboxedImageLoader(lambda: (ToyNoteModality(),), lambda: threads.build(1))
    with closing(loader):
        yield loader


def test_original_without_pixels_has_a_format_and_is_no_query(loader, tmp_path):
    path = tmp_path / "memo.note"
    path.write_bytes(b"note\nremember the milk")
    assert loader.format(bytes(path)) == "TOY"
    with pytest.raises(SourceError, match="there is no picture in it"):
        loader.load(Path(path), ToyPreprocess())
