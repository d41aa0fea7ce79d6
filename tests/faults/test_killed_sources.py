"""A run over a source, and an addition of records, that are killed at any step lose nothing."""

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.maintenance.check import check
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.stored_files import find_orphans

COUNT = 40
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from mmsearch.core.settings import Settings
from mmsearch.maintenance import records, sources
from mmsearch.storage.layout import IndexLayout
from tests.toy_index import install_toys, make_toys
from mmsearch.factories import indexing, warm_parts

install_toys()
sources.make_modalities = warm_parts.make_modalities = indexing.make_modalities
layout = IndexLayout(Path(sys.argv[1]))
settings = Settings(home=layout.folder.parent, model="toy")
common = {"wait_s": 0, "progress": lambda state: None}
if sys.argv[2] == "records":
    added = [
        records.Record(f"{n}.toy", records._Loaded(b"toy %d" % n), metadata={"n": n})
        for n in range(int(sys.argv[3]))
    ]
    parts = warm_parts.WarmParts(settings, print)
    report = records.add_records(
        layout, settings, print, added, parts, keep_originals=True, **common
    )
    parts.close()
else:
    report = sources.add_source(
        layout, settings, print, sys.argv[3].encode(),
        kind=None, name=None, choices={}, retry_failed=False, **common,
    )
print(report.counts())
"""

STEPS = [
    (FailPoint.TRANSACTION_BEGUN, (15,)),
    (FailPoint.TRANSACTION_READY, (14, 15, 17)),
    (FailPoint.TRANSACTION_COMMITTED, (15, 16)),
    (FailPoint.FILE_RENAMED, (2, 3)),
]


def run(layout, *arguments, fault=""):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, layout.folder, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"MMSEARCH_FAULT": fault, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "a.tar"
    with tarfile.open(path, "w") as members:
        for number in range(COUNT):
            content = b"toy %d" % number
            info = tarfile.TarInfo(f"{number}.toy")
            info.size = len(content)
            members.addfile(info, io.BytesIO(content))
    return path


def verify(layout):
    """Assert that an index is sound; return its number of pictures."""
    if not layout.exists():
        return 0
    settings = Settings(home=layout.folder.parent)
    report = check(layout, settings, lambda message: None, sources=False, content=False)
    assert report.verdict == "sound", report.findings
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        assert list(catalog.find_problems()) == []
        return snapshot.pictures


@pytest.mark.parametrize("kind", ["archive", "records"])
@pytest.mark.parametrize(
    ("point", "visit"), [(point, visit) for point, visits in STEPS for visit in visits]
)
def test_source_killed_at_a_step_leaves_sound_index_and_next_run_completes_it(
    point, visit, kind, archive, tmp_path
):
    layout = IndexLayout(tmp_path / "home" / "index")
    arguments = (kind, COUNT if kind == "records" else archive)
    done = run(layout, *arguments, fault=f"{point}:{visit}")
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = verify(layout)
    done = run(layout, *arguments)
    assert done.returncode == 0, done.stderr
    assert verify(layout) == COUNT
    with catalogs.open_read(layout) as catalog:
        assert find_orphans(layout, catalog.referenced_files()) == []
        (source,) = catalog.sources()
        ids = catalog.find_assets(source.id, [b"%d.toy" % n for n in range(COUNT)])
    assert sorted(ids.values()) == sorted(set(ids.values()))
    assert len(ids) == COUNT
    assert before <= COUNT
