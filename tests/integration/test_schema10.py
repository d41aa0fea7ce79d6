"""An index of the last schema of format 1 opens in format 2 with the same pictures and answers.

See tests/data/schema10/README.md.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mmsearch.core.query import Mode
from mmsearch.core.settings import Settings
from mmsearch.core.types import EncoderSpec
from mmsearch.factories import catalogs
from mmsearch.factories.indexing import make_index_builder
from mmsearch.factories.plugins import make_fusion
from mmsearch.indexing.compaction import compact
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import repair
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import ToyEncoder, seeded_pixels, toy_engine

SCHEMA10 = Path(__file__).parent.parent / "data" / "schema10" / "index"
CAPTIONS = {1: ("caption 0",), 11: ("another caption of 3",), 12: ("caption 6",)}
LIVE_IDS = {1: 0, 2: 1, 3: 2, 5: 4, 6: 5, 8: 7, 10: 9, 11: 3, 12: 6}
"""Numbers of the toys by the id of their picture."""

OTHER = EncoderSpec("other", ToyEncoder.spec.dim, "1" * 64, {}, 1, 16)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(SCHEMA10, tmp_path / "home" / "index")
    return IndexLayout(tmp_path / "home" / "index")


@pytest.fixture
def layout(copy):
    with catalogs.open_read(copy):
        pass  # The first command that reads a catalog upgrades it.
    return copy


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA user_version").fetchone()[0]


def run_check(layout):
    settings = Settings(home=layout.folder.parent)
    return check(layout, settings, lambda message: None, sources=False, content=False)


def assert_same_pictures(layout):
    with catalogs.open_read(layout) as catalog:
        pictures = {item.id: item for item in catalog.list_live_pictures(0, 99)}
        assert list(catalog.find_problems()) == []
        assert [os.path.basename(file.path) for file in catalog.failures()] == [b"bad.toy"]
        with catalog.snapshot() as snapshot:
            assert snapshot.pictures == len(LIVE_IDS)
            (copied,) = snapshot.records([3])
    assert {n: tuple(t.text for t in p.picture.texts) for n, p in pictures.items()} == {
        n: CAPTIONS.get(n, ()) for n in LIVE_IDS
    }
    folder = b"/nowhere-schema10/toys/"
    assert copied.paths == (folder + b"2.toy", folder + b"copy of 2.toy")
    with toy_engine(layout) as engine:
        for image_id, number in LIVE_IDS.items():
            hits = engine.search_text(f"toy {number}", 99, Mode.VECTOR).hits
            assert {hit.id for hit in hits} == set(LIVE_IDS)
            if image_id not in CAPTIONS:
                assert (hits[0].id, round(hits[0].score, 2)) == (image_id, 1.0)
        assert engine.search_text("another", 9, Mode.TEXT).hits[0].id == 11


def test_toy_texts_are_encoded_as_the_pictures_that_they_seed():
    encoder = ToyEncoder()
    (text,) = encoder.encode("text", [encoder.prepare("text", "toy 4")])
    (picture,) = encoder.encode("image", [seeded_pixels(b"toy 4")])
    assert (text == picture).all()


def test_schema10_index_is_sound_and_answers_the_same(layout):
    assert_same_pictures(layout)
    assert run_check(layout).verdict == "sound"


def test_schema10_catalog_is_copied_before_its_migration(layout):
    assert schema_of(layout.catalog) > 10
    assert schema_of(layout.format1_catalog) == 10
    copied = layout.format1_catalog.read_bytes()
    with catalogs.open_write(layout, 0, create=False):
        pass
    assert layout.format1_catalog.read_bytes() == copied
    # The copy in its place brings the index back to the earlier version.
    layout.catalog.with_suffix(".seal").unlink()
    shutil.copy(layout.format1_catalog, layout.catalog)
    assert_same_pictures(layout)


def test_schema10_superseded_rows_and_unfinished_encoder_change_are_kept(layout):
    with catalogs.open_write(layout, 0, create=False) as catalog:
        stale_rows = {number: ids.tolist() for number, ids in catalog.stale_rows().items()}
        assert stale_rows == {1: [4], 2: [7]}
        assert catalog.building_key() == OTHER.fingerprint
        assert [segment.number for segment in catalog.list_building_segments()] == [4]
        assert [item.id for item in catalog.list_stale(0, 99, building=True)] == [6]
        assert catalog.next_free_ids() == (13, 5)


def test_schema10_compaction_removes_copy_and_keeps_ids(layout):
    with catalogs.open_write(layout, 0, create=False) as catalog:
        catalog.discard_building()
        fusion = make_fusion(catalog.identity().fusion)
        compact(layout, catalog, fusion, make_index_builder(layout, catalog, ToyEncoder))
    assert not layout.format1_catalog.exists()
    assert_same_pictures(layout)
    assert run_check(layout).verdict == "sound"


@pytest.mark.parametrize("table", ["files", "roots", "texts", "images", "staged_images"])
def test_schema10_damaged_catalog_is_repaired_before_its_migration(copy, table):
    with closing(sqlite3.connect(copy.catalog)) as connection:
        statement = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        page = connection.execute(statement, [table]).fetchone()[0]
    with copy.catalog.open("rb+") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 8)
    settings = Settings(home=copy.folder.parent)
    assert repair(copy, settings, lambda message: None, 0, lambda progress: None).mended
    assert_same_pictures(copy)


@pytest.mark.parametrize(
    ("point", "visit", "schema"),
    [
        (FailPoint.FILE_RENAMED, 1, 10),
        (FailPoint.TRANSACTION_BEGUN, 1, 10),
        (FailPoint.TRANSACTION_READY, 1, 10),
        (FailPoint.TRANSACTION_COMMITTED, 1, 11),
        (FailPoint.CATALOG_CLOSED, 1, 16),
    ],
)
def test_schema10_migration_killed_at_any_step_leaves_old_or_new_format(copy, point, visit, schema):
    program = (
        "import sys; from pathlib import Path\n"
        "from mmsearch.factories import catalogs\n"
        "from mmsearch.storage.layout import IndexLayout\n"
        "with catalogs.open_read(IndexLayout(Path(sys.argv[1]))): pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, copy.folder],
        env=os.environ | {"MMSEARCH_FAULT": f"{point}:{visit}"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert schema_of(copy.catalog) == schema
    assert_same_pictures(copy)
    assert run_check(copy).verdict == "sound"
