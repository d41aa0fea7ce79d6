"""An index of the starter's first version answers as before until it is encoded again.

See tests/data/starter1/README.md.
"""

import json
import shutil
from pathlib import Path

import pytest

import mmsearch as library
from mmsearch.core.types import SUPERSEDED

STARTER1 = Path(__file__).parent.parent / "data" / "starter1"
HITS = json.loads((STARTER1 / "hits.json").read_text(encoding="utf-8"))


@pytest.fixture
def open_index(tmp_path, photos, cache, monkeypatch):
    """Open a copy of the index whose photographs are in a folder of the test."""
    monkeypatch.setenv("MMSEARCH_CACHE", str(cache))
    shutil.copytree(STARTER1 / "index", tmp_path / "home" / "default")
    folder = tmp_path / "tools"
    folder.mkdir()
    for name, _ in HITS["spray"]:
        shutil.copy(photos / "photos" / name, folder / name)
    messages = []
    with library.open_index(home=tmp_path / "home", on_message=messages.append) as index:
        index.set_root("tools", folder)
        yield index, folder, messages


def ask(index, text):
    return index.query(library.SearchRequest(library.Query((library.Term(text),)), 8))


def assert_hits_are_as_before(index):
    for query, hits in HITS.items():
        result = ask(index, query)
        assert [hit.path.name for hit in result.hits] == [name for name, _ in hits]
        # A text tower that is faster in int8 on this machine changes scores in the third digit.
        assert [hit.score for hit in result.hits] == pytest.approx([s for _, s in hits], abs=6e-3)
        (notice,) = [notice for notice in result.notices if notice.code == "older_model"]
        assert "mmsearch reindex --model starter" in notice.text


def test_index_of_first_starter_gives_same_hits_and_a_notice(open_index):
    index, folder, messages = open_index
    assert_hits_are_as_before(index)
    assert index.status().identity.encoder.fingerprint in SUPERSEDED
    messages.clear()
    report = index.add_folder(folder)
    assert (report.encoded, index.status().pictures) == (0, 8)
    assert sum("previous starter" in message for message in messages) == 1


def test_index_of_first_starter_encoded_again_has_new_vectors_and_no_notice(open_index):
    index, folder, _ = open_index
    index.add_folder(folder)  # The copies have other times.
    index.reindex(model="starter")
    encoder = index.status().identity.encoder
    assert not encoder.is_superseded
    assert encoder.dim > 1152
    result = ask(index, "red pencil")
    assert result.hits[0].path.name == HITS["red pencil"][0][0]
    assert "older_model" not in {notice.code for notice in result.notices}
