"""The file that names a collection is checked before its values are used."""

import json

import pytest

from mmsearch.core.errors import DamagedFileError
from mmsearch.core.records import BuiltVectorIndex, FileRef
from mmsearch.storage.atomic import atomic_write
from mmsearch.storage.layout import IndexLayout
from mmsearch.vector_stores._pointer import Pointer, digest_segments, read_pointer, write_pointer
from tests.unit.catalog.samples import segment

VALUES = {"collection": "c1", "dim": 4, "rows": 3, "segments": "ab"}


def test_pointer_is_read_as_it_was_written(tmp_path):
    layout = IndexLayout(tmp_path / "index")
    layout.create()
    pointer = Pointer("c1", 4, 3, digest_segments([segment(1, 3)]))
    file_ref = write_pointer(layout, "pgvector", pointer)
    assert file_ref.name.startswith("ann/000001")
    assert file_ref.name.endswith(".pgvector")
    built = BuiltVectorIndex("pgvector", file_ref, 3, 1)
    assert read_pointer(layout.path(file_ref), built) == pointer


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 10_000,
        *(
            json.dumps(VALUES | change)
            for change in (
                {"collection": "C1"},
                {"collection": "c1; drop"},
                {"collection": 5},
                {"dim": "4"},
                {"dim": 0},
                {"rows": 4},
                {"rows": None},
                {"more": 1},
            )
        ),
    ],
)
def test_invalid_pointer_is_damage(tmp_path, content):
    path = tmp_path / "ann" / "000001.pgvector"
    path.parent.mkdir()
    file_ref = atomic_write(path, content.encode())
    with pytest.raises(DamagedFileError):
        read_pointer(path, BuiltVectorIndex("pgvector", file_ref, 3, 1))


def test_changed_pointer_is_damage(tmp_path):
    path = tmp_path / "000001.pgvector"
    path.write_text(json.dumps(VALUES))
    built = BuiltVectorIndex("pgvector", FileRef("ann/000001.pgvector", 5, "0" * 64), 3, 1)
    with pytest.raises(DamagedFileError):
        read_pointer(path, built)
