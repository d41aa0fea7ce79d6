"""Migration of indexes between files and a store: S3 on this machine."""

# ruff: noqa: F811 - fixtures of another module

import shutil
import signal

import numpy as np
import pytest

from mmsearch import init_index, migrate_index, open_index
from mmsearch.core.errors import DamagedFileError, StateError, UnknownIndexError, UsageError
from mmsearch.factories import catalogs
from mmsearch.maintenance import migrate as module
from mmsearch.storage import stored_files
from mmsearch.storage.failpoints import FailPoint
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import read_places, write_places
from mmsearch.storage.stored_files import list_stored, open_remote
from tests.integration.test_stored_index import (  # noqa: F401 - fixtures
    _environment,
    add_toys,
    drop_copies,
    endpoint,
    hits,
    index_toys,
    referenced,
    run_command,
    run_program,
    toys,
    url,
    verdict,
)
from tests.memory_server import MemoryServer, served_by
from tests.toy_index import make_toys, replaced

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

MIGRATE_PROGRAM = """
import sys
from mmsearch import migrate_index

print(migrate_index("photos", "big", home=sys.argv[1]).files)
"""


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def layout(home, toys):
    """An index of files with a deleted picture, a tail of newer segments, and thumbnails."""
    layout = IndexLayout(home / "photos")
    index_toys(layout, toys)
    (toys / "7.toy").unlink()
    (layout.thumbnails / "ab").mkdir(parents=True)
    (layout.thumbnails / "ab" / f"{'ab' * 32}.jpg").write_bytes(b"a thumbnail")
    (layout.thumbnails / "ab" / "unfinished.jpg.tmp").write_bytes(b"half")
    index_toys(layout, toys)
    return layout


@pytest.fixture
def big(home, url):
    init_index("big", home=home, store=url)
    return IndexLayout(home / "big")


def snapshot_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_locks(files):
    return {path: content for path, content in files.items() if not path.name.startswith("lock")}


def dump(layout):
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        return (
            [vars(record) for record in snapshot.records(snapshot.list_ids(0, 100))],
            catalog.file_count(),
            catalog.segments(),
            snapshot.deleted_ids.tolist(),
        )


def test_files_to_store_and_back_are_equal(layout, big, home, toys):
    expected, before = hits(layout), without_locks(snapshot_of(layout.folder))
    states = []
    report = migrate_index("photos", "big", home=home, progress=states.append)
    assert (report.name, report.to, report.pictures) == ("photos", "big", 19)
    assert report.files == len(referenced(layout)) == states[-1].done == states[-1].total
    assert without_locks(snapshot_of(layout.folder)) == before
    assert list_stored(big).keys() == referenced(big) == referenced(layout)
    assert report.bytes == sum(list_stored(big).values())
    # Nothing is copied to the folder of the new index beside what an answer needs.
    assert {name.split("/")[0] for name, _ in big.files()} == {"ann"}
    assert hits(big) == expected
    assert dump(big) == dump(layout)
    assert [path.name for path in (big.thumbnails / "ab").iterdir()] == [f"{'ab' * 32}.jpg"]
    assert verdict(big) == ("sound", [])
    assert not (big.folder / "migration.json").exists()
    assert not (big.folder / "rebuilding").exists()
    add_toys(toys, [50])
    assert index_toys(big, toys).encoded == 1
    back = IndexLayout(home / "back")
    migrate_index("big", "back", home=home)
    assert hits(back) == hits(big)
    assert dump(back) == dump(big)
    assert verdict(back) == ("sound", [])
    shutil.rmtree(big.folder)
    assert index_toys(back, toys).encoded == 0


@pytest.mark.parametrize(
    ("point", "visit"),
    [
        (FailPoint.FILE_OPENED, 1),
        (FailPoint.FILE_PUBLISHED, 1),
        (FailPoint.CATALOG_CLOSED, 1),
        (FailPoint.CATALOG_MADE, 1),
        (FailPoint.CATALOG_NAMED, 1),
    ],
)
def test_migration_killed_at_a_step_goes_on(layout, big, home, toys, point, visit):
    done = run_program(MIGRATE_PROGRAM, home, MMSEARCH_FAULT=f"{point}:{visit}")
    assert done.returncode == -signal.SIGKILL, done.stderr
    done = run_program(MIGRATE_PROGRAM, home)
    assert done.returncode == 0, done.stderr
    assert hits(big) == hits(layout)
    assert list_stored(big).keys() == referenced(layout)
    assert verdict(big) == ("sound", [])


def test_files_that_arrived_are_not_sent_again(layout, big, home, monkeypatch):
    real, sent = module._copy_file, []

    def copy_file(source, target, ref):
        if sent:
            raise StateError("The network is down.")
        real(source, target, ref)
        sent.append(ref.name)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy_file", copy_file)
        with pytest.raises(StateError, match="network is down"):
            migrate_index("photos", "big", home=home)
    assert open_index("big", home=home).status().pictures == 0
    assert list(list_stored(big)) == sent
    again = []
    monkeypatch.setattr(module, "_copy_file", lambda *args: (again.append(args[2]), real(*args)))
    migrate_index("photos", "big", home=home)
    assert {ref.name for ref in again} == referenced(layout) - set(sent)


def test_file_that_changed_on_its_way_is_sent_again(layout, big, home, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_require_equal", None)
        with pytest.raises(TypeError):
            migrate_index("photos", "big", home=home)
    remote = open_remote(big)
    name, size = next(iter(list_stored(big).items()))
    with remote.put(name) as file:
        file.write(bytes(size))
    migrate_index("photos", "big", home=home)
    assert verdict(big) == ("sound", [])


def test_other_answers_of_the_copy_are_an_error_and_it_stays_empty(layout, big, home, monkeypatch):
    real = module._answers

    def answers(layout, *arguments):
        found = real(layout, *arguments)
        return found if layout.name == "photos" else [np.flip(found[0]).tolist(), *found[1:]]

    with monkeypatch.context() as patch:
        patch.setattr(module, "_answers", answers)
        with pytest.raises(StateError, match="answers of the copy differ"):
            migrate_index("photos", "big", home=home)
    assert open_index("big", home=home).status().pictures == 0
    with monkeypatch.context() as patch:
        patch.setattr(module, "_counts", lambda catalog, snapshot: id(snapshot))
        with pytest.raises(StateError, match="numbers of the copy differ"):
            migrate_index("photos", "big", home=home)
    migrate_index("photos", "big", home=home)
    assert hits(big) == hits(layout)


def test_source_that_is_written_meanwhile_is_copied_again(
    layout,
    big,
    home,
    toys,
    monkeypatch,
):
    real, writes = module._copy_pictures, [60]

    def copy_pictures(source, target):
        real(source, target)
        if writes:
            add_toys(toys, [writes.pop()])
            index_toys(layout, toys)

    monkeypatch.setattr(module, "_copy_pictures", copy_pictures)
    assert migrate_index("photos", "big", home=home).pictures == 20
    assert hits(big) == hits(layout)
    init_index("other", home=home)
    writes[:] = range(70, 80)
    with pytest.raises(StateError, match="is being written"):
        migrate_index("photos", "other", home=home)


def test_damaged_file_of_the_source_is_named(layout, big, home):
    for _, path in layout.files():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="of index 'photos' does not match"):
        migrate_index("photos", "big", home=home)
    assert list_stored(big) == {}


def test_migration_refuses_what_it_would_overwrite(layout, big, home, url, toys):
    with pytest.raises(UsageError, match="to itself"):
        migrate_index("photos", "photos", home=home)
    with pytest.raises(UnknownIndexError, match="no index named 'absent'"):
        migrate_index("absent", "big", home=home)
    index_toys(big, toys)
    for to in ("big", "photos"):
        with pytest.raises(UsageError, match="is not empty"):
            migrate_index("big" if to == "photos" else "photos", to, home=home)
    half = IndexLayout(home / "half")
    half.create()
    (half.folder / "migration.json").write_text('{"source": "/elsewhere"}')
    with pytest.raises(UsageError, match="half a migration of another index"):
        migrate_index("photos", "half", home=home)
    # A store without its catalog.
    for path in big.catalog_files():
        path.unlink()
    drop_copies(big)
    with pytest.raises(UsageError, match="is not empty"):
        migrate_index("photos", "big", home=home)


def test_migrate_command_says_what_it_did(layout, big, run_command):
    code, output = run_command("migrate", "photos", "--to", "big")
    assert code == 0
    assert "19 pictures, " in output
    assert "stays until 'mmsearch remove photos'" in output
    code, output = run_command("migrate", "photos", "--to", "big")
    assert code == 2
    assert "not empty" in output
    assert stored_files.list_stored(big)


def test_migration_loads_no_model(layout, big, home):
    def fail(*arguments, **options):
        raise AssertionError

    with replaced(dict.fromkeys(make_toys(), fail)):
        migrate_index("photos", "big", home=home)


def test_index_moves_to_a_search_server_and_back(layout, home, toys):
    server, served = MemoryServer(), IndexLayout(home / "served")
    expected = hits(layout)
    with served_by(server, served):
        migrate_index("photos", "served", home=home)
        with catalogs.open_read(served) as catalog, catalog.snapshot() as snapshot:
            built = snapshot.built
            assert snapshot.changed_fields.tolist() == []
        (name,) = server.names()
        assert (built.plugin_name, built.settings["collection"], server.published) == (
            "milvus",
            name,
            name,
        )
        assert {path.suffix for path in (served.folder / "ann").iterdir()} == {".milvus"}
        assert [number for number, _ in hits(served)] == [number for number, _ in expected]
        # Each index would drop the collections of the other one.
        twin = IndexLayout(home / "twin")
        twin.create()
        write_places(twin, read_places(served))
        with pytest.raises(UsageError, match="same place on a search server"):
            migrate_index("served", "twin", home=home)
        migrate_index("served", "back", home=home)
        server.collections[name].lost_rows = 19
    back = IndexLayout(home / "back")
    assert hits(back) == expected
    assert verdict(back) == ("sound", [])
    assert index_toys(back, toys).encoded == 0
    assert server.names() == [name]


def test_other_answers_of_a_search_server_are_an_error(layout, home):
    class Reversed(MemoryServer):
        def create(self, name, dim, blocks):
            made = super().create(name, dim, blocks)
            made.data = made.data[::-1]
            return made

    with (
        served_by(Reversed(), IndexLayout(home / "served")),
        pytest.raises(StateError, match="answers of the copy differ"),
    ):
        migrate_index("photos", "served", home=home)
    assert not (home / "served" / "catalog.sqlite").exists()


def test_answers_of_servers_may_differ_a_little():
    rows = [(list(range(10)), [0.9] * 10), ([3, -1], [0.5, -np.inf])]
    nearly = [([*range(9), 77], [0.895] * 10), ([3, -1], [0.5, -np.inf])]
    assert module._are_similar(rows, nearly)
    assert module._are_similar([], [])
    assert module._are_similar([([], [])], [([], [])])
    for other in (
        [],
        [nearly[0], ([-1, -1], [-np.inf] * 2)],
        [([*range(8), 77, 78], [0.9] * 10), rows[1]],
        [(list(range(10)), [0.88] * 10), rows[1]],
        [(list(range(10)), [np.nan] * 10), rows[1]],
    ):
        assert not module._are_similar(rows, other)
