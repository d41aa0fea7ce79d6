"""Untrusted indexes: no command reads, writes or deletes files outside them, or hangs."""

import os
import shutil
import socket
import sqlite3
import stat
from contextlib import closing, suppress

import pytest

from mmsearch import api
from mmsearch.catalog import checksum, schema
from mmsearch.core.errors import DamagedFileError, MMSearchError, SourceError
from mmsearch.core.results import IndexRequest
from mmsearch.factories import catalogs
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock
from mmsearch.storage.stored_files import find_orphans, remove_orphans
from tests.crafted_indexes import (
    change_catalog,
    make_index,
    replace_with_symlink,
    run_command,
    snapshot_tree,
)
from tests.toy_index import toy_indexer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links and named pipes are POSIX's")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "indexes"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Folder of an index, which each test copies, and of its pictures."""
    folder = tmp_path_factory.mktemp("sound")
    make_index(folder / "indexes")
    return folder


@pytest.fixture
def photos(sound):
    return sound / "photos"


@pytest.fixture
def layout(sound, home):
    shutil.copytree(sound / "indexes", home)
    return IndexLayout.for_name(home, "default")


@pytest.fixture
def with_another(home):
    """An index and its pictures, one of which is not indexed yet."""
    layout = make_index(home)
    photos = home.parent / "photos"
    (photos / "four.toy").write_text("four")
    return layout, photos


@pytest.fixture
def strangers(tmp_path):
    """A folder that belongs to no index."""
    folder = tmp_path / "strangers"
    folder.mkdir()
    (folder / "000009.npz").write_bytes(b"dear")
    (folder / "letter.txt").write_bytes(b"dear")
    return folder


# Arguments after the verb; {home}, {photos} and {out} are filled in.
COMMANDS = {
    "query": ["a boat"],
    "similar": ["{photos}/one.toy"],
    "status": [],
    "roots": [],
    "check": [],
    "repair": [],
    "compact": [],
    "backup": ["{out}"],
    "reindex": [],
    "optimize": [],
    "index": ["{photos}"],
}


def command_line(verb, home, photos):
    filled = [part.format(photos=photos, out=home.parent / "out") for part in COMMANDS[verb]]
    return [verb, *filled, "--home", home]


def is_one_sentence(shown):
    assert "Traceback" not in shown
    assert "unexpected went wrong" not in shown
    return shown


OWN_NAMES = [
    "catalog.sqlite",
    "catalog.sqlite-wal",
    "catalog.sqlite-shm",
    "catalog.sqlite-journal",
    "catalog.sqlite.tmp",
    "catalog.seal",
    "segments",
    "ann",
    "damaged",
    "rebuilding",
    "lock",
    "lock.holder",
]


@pytest.mark.parametrize("verb", [*COMMANDS, "remove", "restore"])
@pytest.mark.parametrize("name", OWN_NAMES)
def test_command_index_part_replaced_by_link_exits_1(
    layout, home, tmp_path, photos, verb, name, monkeypatch, capsys
):
    elsewhere = tmp_path / "elsewhere" / name
    elsewhere.parent.mkdir()
    replace_with_symlink(layout.folder / name, elsewhere)
    before = snapshot_tree(elsewhere.parent)
    if verb == "remove":
        line = ["remove", "default", "--yes", "--home", home]
    elif verb == "restore":
        line = ["restore", layout.folder, "--index", "other", "--home", home]
    else:
        line = command_line(verb, home, photos)
    code = run_command(monkeypatch, *line)
    shown = "".join(capsys.readouterr())
    assert code == 1, shown
    assert f"{layout.folder / name} is a link" in is_one_sentence(shown)
    assert snapshot_tree(elsewhere.parent) == before


@pytest.mark.parametrize("folder", ["segments", "ann"])
@pytest.mark.parametrize("verb", ["status", "check", "compact", "backup", "repair"])
def test_command_linked_vector_file_leaves_target_unchanged(
    layout, home, tmp_path, photos, folder, verb, monkeypatch, capsys
):
    (path,) = (layout.folder / folder).iterdir()
    elsewhere = tmp_path / "elsewhere" / path.name
    elsewhere.parent.mkdir()
    replace_with_symlink(path, elsewhere)
    before = snapshot_tree(elsewhere.parent)
    code = run_command(monkeypatch, *command_line(verb, home, photos))
    shown = is_one_sentence("".join(capsys.readouterr()))
    if verb in ("check", "backup"):
        assert code == 1
        assert f"{path} is a link" in shown
    assert snapshot_tree(elsewhere.parent) == before


def test_orphan_removal_with_linked_folder_leaves_target_unchanged(layout, strangers):
    shutil.rmtree(layout.folder / "ann")
    (layout.folder / "ann").symlink_to(strangers)
    before = snapshot_tree(strangers)
    (segment,) = (layout.folder / "segments").iterdir()
    name = f"segments/{segment.name}"
    assert find_orphans(layout, set()) == [name]
    remove_orphans(layout, {name})
    with pytest.raises(DamagedFileError, match="is a link"), toy_indexer(layout):
        pass
    assert snapshot_tree(strangers) == before


def test_orphan_removal_deletes_only_writer_file_names(with_another, strangers):
    layout, photos = with_another
    segments, built = layout.folder / "segments", layout.folder / "ann"
    kept = [
        segments / "letter.txt",
        segments / "notes.npz",
        segments / "1.npz",
        segments / "notes.vectors",
        segments / "1.vectors",
        segments / "000002.x.vectors",
        segments / "000002-.vectors",
        segments / "000002-0123456789abcde.vectors",
        segments / "000002-0123456789ABCDEF.vectors",
        segments / "000002-0123456789abcdef.npz",
        built / "000002-0123456789abcde.vectors",
        segments / "000002.NPZ",
        segments / "000002.npz.orig",
        built / "000002.vectors~",
        built / "\u00b2000002.vectors",
        layout.folder / "README",
    ]
    for path in kept:
        path.write_text("mine")
    linked = segments / "000005.vectors"
    linked.symlink_to(strangers / "letter.txt")
    (built / "000007.vectors").mkdir()
    orphans = [
        folder / f"000009.{suffix}"
        for folder in (segments, built)
        for suffix in ("npz", "npz.tmp", "vectors", "vectors.tmp")
    ]
    orphans += [
        segments / f"000001-0123456789abcdef.{suffix}" for suffix in ("vectors", "vectors.tmp")
    ]
    for path in orphans:
        path.write_text("orphan")
    with toy_indexer(layout) as indexer:
        indexer.run(IndexRequest(os.fsencode(photos)))
    assert all(path.read_text() == "mine" for path in kept)
    assert linked.is_symlink()
    assert not any(path.exists() for path in orphans)
    assert (strangers / "letter.txt").read_bytes() == b"dear"


def test_writer_linked_temporary_files_leave_target_unchanged(with_another, strangers):
    layout, photos = with_another
    letter = strangers / "letter.txt"
    for name in ("segments/000002.vectors.tmp", "ann/000002.vectors.tmp", "ann/000002.npz.tmp"):
        (layout.folder / name).symlink_to(letter)
    with toy_indexer(layout) as indexer:
        report = indexer.run(IndexRequest(os.fsencode(photos)))
    assert report.added == 1
    assert letter.read_bytes() == b"dear"


def test_linked_index_folder_can_be_backed_up_restored_and_removed(
    layout, home, tmp_path, monkeypatch, capsys
):
    real = tmp_path / "disk" / "default"
    real.parent.mkdir()
    layout.folder.rename(real)
    layout.folder.symlink_to(real)
    assert run_command(monkeypatch, "status", "--home", home) == 0
    assert run_command(monkeypatch, "backup", tmp_path / "copy", "--home", home) == 0
    line = ["restore", tmp_path / "copy", "--replace", "--home", home]
    assert run_command(monkeypatch, *line) == 0
    assert layout.folder.is_symlink()
    assert sorted(os.listdir(real.parent)) == ["default"]
    assert run_command(monkeypatch, "remove", "default", "--yes", "--home", home) == 0
    assert not os.path.lexists(layout.folder)
    assert os.listdir(real.parent) == []
    capsys.readouterr()


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    # The path of a socket may have only about a hundred bytes.
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(path.parent)
        try:
            listener.bind(path.name)
        finally:
            os.chdir(before)


def make_folder(path):
    path.mkdir()
    (path / "kept").write_text("kept")


def make_file(path):
    path.write_text("kept")


OTHERS = {
    "a named pipe": make_pipe,
    "a socket": make_socket,
    "a folder": make_folder,
}


@pytest.mark.parametrize("verb", ["query", "status", "check", "repair", "index", "compact"])
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.seal", "lock", "lock.holder"])
def test_command_pipe_socket_or_folder_in_place_of_file_exits_1(
    layout, home, photos, verb, kind, name, monkeypatch, capsys
):
    path = layout.folder / name
    path.unlink(missing_ok=True)
    OTHERS[kind](path)
    code = run_command(monkeypatch, *command_line(verb, home, photos))
    shown = "".join(capsys.readouterr())
    assert code == 1
    assert f"{path} is {kind}" in is_one_sentence(shown)


@pytest.mark.parametrize("name", ["segments", "ann", "damaged", "rebuilding"])
@pytest.mark.parametrize("make", [make_pipe, make_file])
@pytest.mark.parametrize("verb", ["query", "status", "repair", "index"])
def test_command_file_or_pipe_in_place_of_folder_exits_1(
    layout, home, photos, name, make, verb, monkeypatch, capsys
):
    path = layout.folder / name
    shutil.rmtree(path, ignore_errors=True)
    make(path)
    code = run_command(monkeypatch, *command_line(verb, home, photos))
    shown = "".join(capsys.readouterr())
    assert code == 1
    kind = "a file" if make is make_file else "a named pipe"
    assert f"{path} is {kind}" in is_one_sentence(shown)


@pytest.mark.parametrize("make", [make_pipe, make_socket, make_folder])
@pytest.mark.parametrize("folder", ["segments", "ann"])
def test_check_vector_file_replaced_by_other_kind_reports_it(layout, home, tmp_path, make, folder):
    (path,) = (layout.folder / folder).iterdir()
    path.unlink()
    make(path)
    with api.open_index("default", home=home) as index:
        found = index.check().findings
    kind = {make_pipe: "a named pipe", make_socket: "a socket", make_folder: "a folder"}[make]
    assert any(f"{path} is {kind}" in finding.message for finding in found)


FOREIGN = [
    "../../strangers/letter.txt",
    "segments/../../../strangers/letter.txt",
    "{strangers}/letter.txt",
    "segments/letter.txt",
    "segments/000001.vectors\0",
    "segments/000001.vectors\0/../../x",
    "segments/000001.vectors\n",
    "segments/000001.vectors.tmp",
    "segments/000001.x.vectors",
    "segments/000001.x.npz",
    "segments/000001-0123456789abcde.vectors",
    "segments/000001-0123456789abcdef0.vectors",
    "segments/000001-0123456789ABCDEF.vectors",
    "segments/000001-0123456789abcdeg.vectors",
    "segments/000001-0123456789abcdef.npz",
    "segments/000001-0123456789abcdef-0123456789abcdef.vectors",
    "segments/-0123456789abcdef.vectors",
    "segments/../1-0123456789abcdef.vectors",
    "segments//000001.npz",
    "./segments/000001.vectors",
    "catalog.sqlite",
    "ann/../segments/000001.vectors",
    "segments/\u0660\u0660\u0660\u0660\u0660\u0661.npz",
    "",
    b"segments/000001.vectors",
    7,
]


@pytest.mark.parametrize("name", ["000001", "1234567890", "000001-0123456789abcdef"])
def test_sqlite_accepts_the_names_that_writers_give_to_segments(layout, name):
    change_catalog(layout, ("UPDATE segments SET name = ?", [f"segments/{name}.vectors"]))
    with closing(sqlite3.connect(layout.catalog)) as connection:
        assert connection.execute(schema._INVALID_FILE_NAMES_SQL).fetchall() == []
    with catalogs.open_read(layout) as catalog:
        (segment,) = catalog.segments()
    assert segment.file_ref.name == f"segments/{name}.vectors"


@pytest.mark.parametrize("table", ["segments", "built_indexes"])
@pytest.mark.parametrize("name", FOREIGN)
def test_catalog_with_foreign_file_name_raises_damaged_file_error(layout, strangers, table, name):
    if isinstance(name, str):
        name = name.format(strangers=strangers)
    change_catalog(layout, (f"UPDATE {table} SET name = ?", [name]))  # noqa: S608
    before = snapshot_tree(strangers)
    for act in (
        lambda index: index.status(),
        lambda index: index.backup(strangers.parent / "out"),
        lambda index: index.compact(),
        lambda index: index.search("a boat"),
    ):
        with (
            api.open_index("default", home=layout.folder.parent) as index,
            pytest.raises(DamagedFileError, match="catalog refers to"),
        ):
            act(index)
    with api.open_index("default", home=layout.folder.parent) as index:
        report = index.check()
    assert any("catalog refers to" in finding.message for finding in report.findings)
    with api.open_index("default", home=layout.folder.parent) as index:
        index.remove()
    assert not layout.folder.exists()
    assert snapshot_tree(strangers) == before


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS if verb != "repair"])
@pytest.mark.parametrize("table", ["segments", "built_indexes"])
def test_command_catalog_naming_outside_file_exits_1(
    layout, home, photos, strangers, verb, table, monkeypatch, capsys
):
    away = "../../strangers/letter.txt"
    change_catalog(layout, f"UPDATE {table} SET name = '{away}'")  # noqa: S608
    before = snapshot_tree(strangers)
    code = run_command(monkeypatch, *command_line(verb, home, photos))
    shown = "".join(capsys.readouterr())
    assert code == 1, shown
    assert f"The catalog refers to '{away}'" in is_one_sentence(shown)
    assert snapshot_tree(strangers) == before


@pytest.mark.parametrize("table", ["segments", "built_indexes"])
def test_repair_of_catalog_naming_outside_file_leaves_file_unchanged(
    layout, home, strangers, table, monkeypatch, capsys
):
    change_catalog(layout, f"UPDATE {table} SET name = '../../strangers/letter.txt'")  # noqa: S608
    before = snapshot_tree(strangers)
    run_command(monkeypatch, "repair", "--home", home)
    is_one_sentence("".join(capsys.readouterr()))
    assert snapshot_tree(strangers) == before


@pytest.mark.parametrize("values", ["bytes = -1", "bytes = 'many'", "sha256 = 'x'", "sha256 = 7"])
def test_catalog_with_invalid_size_or_digest_raises_damaged_file_error(layout, values):
    change_catalog(layout, f"UPDATE segments SET {values}")  # noqa: S608
    with (
        api.open_index("default", home=layout.folder.parent) as index,
        pytest.raises(DamagedFileError, match="catalog"),
    ):
        index.status()


@pytest.mark.parametrize(
    "path", [b"../../etc/passwd", b"/etc/passwd", b"a/../../b", b"a\0b", b"a//b", b"./a", "text"]
)
def test_catalog_path_outside_root_raises_damaged_file_error(layout, path):
    change_catalog(layout, ("UPDATE assets SET key = ? WHERE id = 1", [path]))
    with (
        api.open_index("default", home=layout.folder.parent) as index,
        pytest.raises(DamagedFileError, match="not a path below a folder"),
    ):
        index.picture(1)


@pytest.mark.parametrize("path", [b"photos", b"", b"/photos/../etc", b"/a\0b", "/photos"])
def test_catalog_root_not_absolute_raises_damaged_file_error(layout, path):
    change_catalog(layout, ("UPDATE sources SET uri = ?", [path]))
    with (
        api.open_index("default", home=layout.folder.parent) as index,
        pytest.raises(DamagedFileError, match="not an absolute path"),
    ):
        index.roots()


@pytest.mark.parametrize("verb", ["query", "status", "check", "compact", "index"])
def test_command_with_foreign_sqlite_journal_exits_1(
    layout, home, photos, verb, monkeypatch, capsys
):
    (layout.folder / "catalog.sqlite-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7")
    code = run_command(monkeypatch, *command_line(verb, home, photos))
    shown = "".join(capsys.readouterr())
    assert code == 1
    assert "catalog.sqlite-journal is not a file of a catalog" in is_one_sentence(shown)


def test_backup_writes_through_no_link(layout, tmp_path, strangers):
    before = snapshot_tree(strangers)
    (tmp_path / ".copy.unfinished").symlink_to(strangers)
    (tmp_path / "link").symlink_to(strangers / "new")
    with api.open_index("default", home=layout.folder.parent) as index:
        index.backup(tmp_path / "copy")
        with pytest.raises(SourceError, match="exists already"):
            index.backup(tmp_path / "link")
    assert IndexLayout(tmp_path / "copy").exists()
    assert snapshot_tree(strangers) == before


def test_restore_and_remove_delete_through_no_link(layout, home, strangers):
    before = snapshot_tree(strangers)
    for name in (".default.removed", ".default.replaced", ".default.restored"):
        (home / name).symlink_to(strangers)
    with api.open_index("default", home=home) as index:
        index.backup(home.parent / "copy")
    api.restore_index(home.parent / "copy", home=home, replace=True)
    with api.open_index("default", home=home) as index:
        index.remove()
    assert snapshot_tree(strangers) == before


def test_writer_lock_that_is_link_raises_damaged_file_error(layout, strangers):
    letter = strangers / "letter.txt"
    layout.lock.unlink(missing_ok=True)
    layout.lock.symlink_to(letter)
    with pytest.raises(DamagedFileError, match="is a link"), writer_lock(layout):
        pass
    assert letter.read_bytes() == b"dear"


# --- permissions of an index ---


def modes(folder):
    """Return the permissions of a folder and of all that it contains."""
    places = [folder, *folder.rglob("*")]
    return {
        (stat.S_ISDIR(path.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) for path in places
    }


PRIVATE = {(True, 0o700), (False, 0o600)}


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_index_files_are_private_under_any_umask(home, tmp_path):
    layout = make_index(home)
    assert modes(layout.folder) == PRIVATE
    with api.open_index("default", home=home) as index:
        index.status()
        index.backup(tmp_path / "copy")
        index.compact()
    with toy_indexer(layout):
        assert modes(layout.folder) == PRIVATE
    assert modes(layout.folder) == PRIVATE
    assert modes(tmp_path / "copy") == PRIVATE
    api.restore_index(tmp_path / "copy", "other", home=home)
    assert modes(home / "other") == PRIVATE
    layout.catalog.write_bytes(b"damage" * 1000)
    # Its folder cannot be scanned: the toy encoder exists only in tests.
    with api.open_index("default", home=home) as index, suppress(MMSearchError):
        index.repair()
    assert (layout.folder / "damaged").is_dir()
    assert modes(layout.folder) == PRIVATE


@pytest.mark.usefixtures("umask")
def test_index_files_inherit_folder_permissions(home):
    folder = home / "default"
    folder.mkdir(parents=True)
    folder.chmod(0o2750)
    layout = make_index(home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o2750
    assert stat.S_IMODE((folder / "segments").stat().st_mode) & 0o777 == 0o750
    (segment,) = (layout.folder / "segments").iterdir()
    for path in (layout.catalog, segment, checksum.checksum_path(layout.catalog)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.usefixtures("umask")
def test_index_in_world_writable_folder_is_not_world_writable(home):
    folder = home / "default"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    layout = make_index(home)
    (segment,) = (layout.folder / "segments").iterdir()
    for path in (layout.catalog, segment, segment.parent):
        assert not stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH


@pytest.mark.usefixtures("umask")
def test_settings_file_is_private_under_any_umask(tmp_path, monkeypatch, capsys):
    settings = tmp_path / "config" / "settings.toml"
    monkeypatch.setenv("MMSEARCH_CONFIG", str(settings))
    assert run_command(monkeypatch, "models", "use", "starter") == 0
    capsys.readouterr()
    assert modes(settings.parent) == PRIVATE
