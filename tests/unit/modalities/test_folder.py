"""The walk over folders with arbitrary files."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmsearch.core.errors import UsageError
from mmsearch.core.folder_choices import SYSTEM_FOLDERS
from mmsearch.core.records import FailedFile, ScannedFile
from mmsearch.modalities._folder import walk
from mmsearch.modalities.image import build

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(b"/".join)


def plant(root, *paths):
    """Create files of three bytes, with the folders that they need."""
    for path in paths:
        place = os.path.join(os.fsencode(root), os.fsencode(path))
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "wb") as file:
            file.write(b"abc")


class Files:
    """The files of a walk, without the folders between them."""

    def __init__(self, folders):
        self.folders = folders

    def __iter__(self):
        for folder in self.folders:
            yield from folder.list_files()

    @property
    def unreadable(self):
        return self.folders.unreadable


class AnyModality:
    """Claims every file by its name."""

    missing_extra = None

    def can_read(self, path):
        return True

    def recognizes(self, head):
        return False


def folders_of(root, **options):
    return walk(os.fsencode(root), modalities=options.pop("modalities", [build()]), **options)


def walk_of(root, **options):
    return Files(folders_of(root, **options))


def paths(root, **options):
    return [os.fsdecode(file.path) for file in walk_of(root, **options)]


def test_walk_yields_files_sorted_folder_by_folder(tmp_path):
    plant(
        tmp_path, "b.jpg", "a.jpg", "c/z.png", "c/a/q.gif", "c/y.png", "a/x.jpg", "B.jpg", "t.txt"
    )
    expected = ["B.jpg", "a.jpg", "b.jpg", "a/x.jpg", "c/y.png", "c/z.png", "c/a/q.gif"]
    assert paths(tmp_path) == expected
    files = walk_of(tmp_path)
    assert list(files) == list(files)


def test_walk_reports_size_and_mtime_of_file(tmp_path):
    plant(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_234_567_890_123_456_789))
    ctime_ns = (tmp_path / "a.jpg").stat().st_ctime_ns
    expected = ScannedFile(b"a.jpg", 3, 1_234_567_890_123_456_789, (), ctime_ns)
    assert list(walk_of(tmp_path)) == [expected]


def test_walk_empty_folder_yields_no_files(tmp_path):
    files = walk_of(tmp_path)
    assert list(files) == []
    assert files.unreadable == []


@pytest.mark.parametrize(
    "name", [b"\xff\xfe.jpg", b"a b.jpg", b"a\nb.jpg", b"-rf.jpg", b"\\.jpg", "é.jpg"]
)
def test_walk_unusual_file_names_are_yielded_and_matched_by_patterns(tmp_path, name):
    name = os.fsencode(name)
    plant(tmp_path, name, b"d/" + name)
    assert [file.path for file in walk_of(tmp_path)] == [name, b"d/" + name]
    assert [file.path for file in walk_of(tmp_path, include=["*.jpg"])] == [name, b"d/" + name]
    assert paths(tmp_path, exclude=["*.jpg"]) == []


def test_walk_patterns_match_names_in_other_unicode_form_and_absolute_paths(tmp_path):
    plant(tmp_path, "Zu\u0308rich/a.jpg", "photo [1].jpg", "b.jpg")
    assert paths(tmp_path, include=["z\u00fcrich/"]) == ["Zu\u0308rich/a.jpg"]
    assert paths(tmp_path, exclude=["Z\u00fcrich", "photo [1].jpg"]) == ["b.jpg"]
    assert paths(tmp_path, exclude=[f"{tmp_path}/Zu\u0308rich", "/b.jpg"]) == ["photo [1].jpg"]
    assert paths(tmp_path, include=[f"{tmp_path}/*.jpg"]) == ["b.jpg", "photo [1].jpg"]


def test_walk_sidecar_of_excluded_picture_belongs_to_no_other(tmp_path):
    plant(tmp_path, "a.jpg", "A.png", "a.txt")
    assert [file.sidecars for file in walk_of(tmp_path, exclude=["*.jpg"])] == [()]


@settings(deadline=None)
@given(st.sets(PATHS, max_size=8), st.booleans())
def test_walk_any_tree_yields_each_file_once(names, follow_symlinks):
    root = tempfile.mkdtemp().encode()
    try:
        placed = set()
        for name in sorted(names):
            try:
                plant(root, name)
            except OSError:  # a file stands where a folder is needed
                continue
            placed.add(name)
        seen = [
            file.path
            for file in walk_of(
                root, modalities=[AnyModality()], hidden=True, follow_symlinks=follow_symlinks
            )
        ]
        assert len(seen) == len(set(seen))
        assert set(seen) == placed
        every = walk_of(root, modalities=[AnyModality()], hidden=True, exclude=["*"])
        assert list(every) == []
        chosen = walk_of(root, modalities=[AnyModality()], hidden=True, include=["*"])
        assert [file.path for file in chosen] == [
            file.path for file in walk_of(root, modalities=[AnyModality()], hidden=True)
        ]
    finally:
        shutil.rmtree(root)


# Hidden


def test_walk_omits_hidden_files_unless_requested(tmp_path):
    plant(tmp_path, "a.jpg", ".b.jpg", ".git/c.jpg", "d/.e/f.jpg")
    assert paths(tmp_path) == ["a.jpg"]
    assert paths(tmp_path, hidden=True) == [".b.jpg", "a.jpg", ".git/c.jpg", "d/.e/f.jpg"]


@pytest.mark.parametrize("name", sorted(SYSTEM_FOLDERS))
def test_walk_omits_system_folders_unless_hidden_requested(tmp_path, name):
    plant(tmp_path, name.upper() + b"/a.jpg", b"d/" + name + b"/a.jpg", name + b".jpg")
    assert paths(tmp_path) == [os.fsdecode(name) + ".jpg"]
    assert len(paths(tmp_path, hidden=True)) == 3


def test_walk_hidden_root_is_walked(tmp_path):
    plant(tmp_path, ".photos/a.jpg")
    assert paths(tmp_path / ".photos") == ["a.jpg"]


# Links


def test_walk_omits_symlinks_unless_followed(tmp_path):
    plant(tmp_path, "real/a.jpg", "elsewhere/b.jpg", "elsewhere/c/d.jpg")
    root = tmp_path / "real"
    (root / "file.jpg").symlink_to(tmp_path / "elsewhere/b.jpg")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    assert paths(root) == ["a.jpg"]
    followed = ["a.jpg", "file.jpg", "folder/b.jpg", "folder/c/d.jpg"]
    assert paths(root, follow_symlinks=True) == followed


def test_walk_symlinked_file_has_size_and_mtime_of_target(tmp_path):
    plant(tmp_path, "real.jpg", "root/x.txt")
    (tmp_path / "root/a.jpg").symlink_to("../real.jpg")
    (file,) = walk_of(tmp_path / "root", follow_symlinks=True)
    assert (file.size, file.mtime_ns) == (3, (tmp_path / "real.jpg").stat().st_mtime_ns)


def test_walk_symlink_loops_visit_each_real_folder_once(tmp_path):
    plant(tmp_path, "a/x.jpg", "b/y.jpg")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(".")
    (tmp_path / "b/a").symlink_to("../a")
    (tmp_path / "c").symlink_to("c")
    (tmp_path / "c.jpg").symlink_to("c.jpg")
    files = walk_of(tmp_path, follow_symlinks=True)
    assert [file.path for file in files] == [b"a/x.jpg", b"b/y.jpg"]
    assert files.unreadable == []
    again = [file.path for file in files]
    assert again == [b"a/x.jpg", b"b/y.jpg"]


@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_walk_omits_broken_symlinks(tmp_path, follow_symlinks):
    plant(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to("nowhere.jpg")
    files = walk_of(tmp_path, follow_symlinks=follow_symlinks)
    assert [file.path for file in files] == [b"a.jpg"]
    assert files.unreadable == []


def test_walk_symlinked_root_is_walked(tmp_path):
    plant(tmp_path, "real/a.jpg")
    (tmp_path / "link").symlink_to("real")
    assert paths(tmp_path / "link") == ["a.jpg"]


# Patterns

TREE = (
    "a.jpg", "b.PNG", "Drafts/c.jpg", "x/drafts/d.jpg", "x/drafts.jpg", "x/y/z/e.jpg", "x/y/f.png",
)  # fmt: skip


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (["*.PNG"], ["b.PNG", "x/y/f.png"]),
        (["*.jpg", "!a.*"], ["Drafts/c.jpg", "x/drafts.jpg", "x/drafts/d.jpg", "x/y/z/e.jpg"]),
        (["e.jpg", "A.JPG"], ["a.jpg", "x/y/z/e.jpg"]),
        (["drafts/"], ["Drafts/c.jpg", "x/drafts/d.jpg"]),
        (["/drafts/"], ["Drafts/c.jpg"]),
        (["x/**/e.jpg"], ["x/y/z/e.jpg"]),
        (["x/*.jpg"], ["x/drafts.jpg"]),
        (["X/Y/"], ["x/y/f.png", "x/y/z/e.jpg"]),
        (["**/y/**"], ["x/y/f.png", "x/y/z/e.jpg"]),
        (["?.jpg"], ["a.jpg", "Drafts/c.jpg", "x/drafts/d.jpg", "x/y/z/e.jpg"]),
        (["[ab].*"], ["a.jpg", "b.PNG"]),
        (["nothing"], []),
    ],
)
def test_walk_include_patterns_select_matching_files(tmp_path, include, expected):
    plant(tmp_path, *TREE)
    assert sorted(paths(tmp_path, include=include)) == sorted(expected)


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (["*.png"], ["a.jpg", "Drafts/c.jpg", "x/drafts.jpg", "x/drafts/d.jpg", "x/y/z/e.jpg"]),
        (["drafts/"], ["a.jpg", "b.PNG", "x/drafts.jpg", "x/y/f.png", "x/y/z/e.jpg"]),
        (["x/y"], ["a.jpg", "b.PNG", "Drafts/c.jpg", "x/drafts.jpg", "x/drafts/d.jpg"]),
        (["x/**"], ["a.jpg", "b.PNG", "Drafts/c.jpg"]),
        (
            ["**/z"],
            ["a.jpg", "b.PNG", "Drafts/c.jpg", "x/drafts.jpg", "x/drafts/d.jpg", "x/y/f.png"],
        ),
        (["/*", "!a.jpg"], ["a.jpg"]),
        (["*"], []),
    ],
)
def test_walk_exclude_patterns_omit_matching_files(tmp_path, exclude, expected):
    plant(tmp_path, *TREE)
    assert sorted(paths(tmp_path, exclude=exclude)) == sorted(expected)


def test_walk_exclude_takes_precedence_over_include(tmp_path):
    plant(tmp_path, *TREE)
    assert paths(tmp_path, include=["*.jpg"], exclude=["x/", "drafts/"]) == ["a.jpg"]


def test_walk_patterns_match_paths_with_line_breaks(tmp_path):
    plant(tmp_path, "x\ny/drafts/a.jpg", "x\ny/b.jpg", "c.jpg")
    assert paths(tmp_path, exclude=["drafts/"]) == ["c.jpg", "x\ny/b.jpg"]
    assert paths(tmp_path, include=["x\nY/"]) == ["x\ny/b.jpg", "x\ny/drafts/a.jpg"]
    plant(tmp_path, "d.jpg\n")
    assert paths(tmp_path, modalities=[AnyModality()], exclude=["*.jpg"]) == ["d.jpg\n"]


@pytest.mark.parametrize("pattern", ["!", "\\", "[z"])
def test_walk_invalid_pattern_raises_usage_error_with_pattern(tmp_path, pattern):
    for option in ("include", "exclude"):
        with pytest.raises(UsageError) as caught:
            walk_of(tmp_path, **{option: ["*.jpg", pattern]})
        assert repr(pattern) in str(caught.value)


@pytest.fixture
def listed(monkeypatch):
    """Names of the folders that were listed."""
    met, scandir = [], os.scandir

    def spy(path):
        met.append(os.path.basename(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", spy)
    return met


def test_walk_does_not_list_omitted_folders(tmp_path, listed):
    plant(tmp_path, "a/x.jpg", "b/c/x.jpg", ".h/x.jpg", "@eaDir/x.jpg", "d/x.jpg")
    assert paths(tmp_path, exclude=["a/", "c"]) == ["d/x.jpg"]
    assert listed == [os.fsencode(tmp_path.name), b"b", b"d"]


# Errors


def test_walk_unlistable_folder_is_reported_as_unreadable(tmp_path, monkeypatch):
    # Root may list everything, so the system's answer is simulated.
    plant(tmp_path, "a/x.jpg", "b/y.jpg", "c/z.jpg")
    forbidden, scandir = os.fsencode(tmp_path / "b"), os.scandir

    def refusing(path):
        if path == forbidden:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    files = walk_of(tmp_path)
    for _ in range(2):
        assert [file.path for file in files] == [b"a/x.jpg", b"c/z.jpg"]
        assert files.unreadable == [FailedFile(forbidden, "permission denied")]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root lists everything")
def test_walk_folder_without_permission_is_reported_as_unreadable(tmp_path):
    plant(tmp_path, "a/x.jpg", "b/y.jpg")
    (tmp_path / "a").chmod(0)
    try:
        files = walk_of(tmp_path)
        assert [file.path for file in files] == [b"b/y.jpg"]
        assert files.unreadable == [FailedFile(os.fsencode(tmp_path / "a"), "permission denied")]
    finally:
        (tmp_path / "a").chmod(0o700)


@pytest.mark.parametrize("follow_symlinks", [False, True])
def test_walk_missing_or_non_folder_root_is_reported_as_unreadable(tmp_path, follow_symlinks):
    plant(tmp_path, "a.jpg")
    for name in ("missing", "a.jpg"):
        files = walk_of(tmp_path / name, follow_symlinks=follow_symlinks)
        assert list(files) == []
        assert [failed.path for failed in files.unreadable] == [os.fsencode(tmp_path / name)]


def test_walk_omits_fifos_folders_and_devices(tmp_path):
    plant(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to("/dev/null")
    assert paths(tmp_path, follow_symlinks=True) == ["a.jpg"]


def test_walk_folder_deleted_during_walk_yields_no_files(tmp_path):
    plant(tmp_path, "a.jpg", "c/d.jpg")
    files = iter(walk_of(tmp_path))
    assert next(files).path == b"a.jpg"
    shutil.rmtree(tmp_path / "c")
    assert list(files) == []


def test_walk_file_deleted_during_listing_is_omitted(tmp_path, monkeypatch):
    plant(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    stat = os.stat

    def vanishing(path, **options):
        if os.path.basename(path) == b"b.jpg":
            (tmp_path / "b.jpg").unlink()
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", vanishing)
    monkeypatch.setattr(os, "supports_dir_fd", {vanishing})
    assert paths(tmp_path) == ["a.jpg", "c.jpg"]


def test_walk_without_dir_fd_support_yields_same_files(tmp_path, monkeypatch):
    plant(tmp_path, "a.jpg", "a.txt", "b/c.jpg")
    held = list(walk_of(tmp_path))
    monkeypatch.setattr(os, "supports_dir_fd", set())
    assert list(walk_of(tmp_path)) == held


class TestFolderDigest:
    """The digest changes with everything that affects the files of a folder, and only then."""

    def digests(self, root, **options):
        return {folder.path: folder.digest for folder in folders_of(root, **options)}

    @pytest.fixture
    def planted(self, tmp_path):
        plant(tmp_path, "a.jpg", "a.txt", "notes.md", "b/c.jpg", "b/d.jpg")
        for path in tmp_path.rglob("*"):
            os.utime(path, ns=(10**9, 10**9))
        return tmp_path

    def test_digest_is_unchanged_by_subfolders(self, planted):
        before = self.digests(planted)
        plant(planted, "b/e/f.jpg")
        after = self.digests(planted)
        assert before == {path: after[path] for path in before}
        assert set(after) - set(before) == {b"b/e"}

    @pytest.mark.parametrize(
        "change",
        [
            lambda root: os.utime(root / "a.jpg", ns=(10**9, 10**9 + 1)),
            lambda root: (root / "a.jpg").write_bytes(b"abcd"),
            lambda root: os.utime(root / "a.txt", ns=(10**9, 2 * 10**9)),
            lambda root: (root / "a.jpg").rename(root / "b.jpg"),
            lambda root: (root / "a.jpg").unlink(),
            lambda root: (root / "a.txt").unlink(),
            lambda root: (root / "a.jpg").chmod(0o600),
            lambda root: plant(root, "more.md"),
            lambda root: plant(root, ".hidden/a.jpg"),
            lambda root: (root / "link").symlink_to("a.jpg"),
            lambda root: plant(root, "z.jpg"),
            lambda root: plant(root, "z.json"),
        ],
    )
    def test_digest_changes_with_file_of_that_folder_only(self, planted, change):
        before = self.digests(planted)
        change(planted)
        after = self.digests(planted)
        assert before[b""] != after[b""]
        assert before[b"b"] == after[b"b"]

    def test_digest_depends_on_walk_options(self, planted):
        choices = [{}, {"include": ["*.jpg"]}, {"exclude": ["*.jpg"]}, {"hidden": True}]
        found = {self.digests(planted, **choice)[b""] for choice in choices}
        assert len(found) == len(choices)

    def test_digest_differs_for_different_lists_of_names(self, tmp_path):
        plant(tmp_path, "one/a.jpg", "one/b.jpg", "two/ab.jpg", "three/a.jpg")
        assert len(set(self.digests(tmp_path).values())) == 4


def test_walk_very_deep_tree_yields_deepest_file(monkeypatch):
    depth = 1200
    root = Path(tempfile.mkdtemp())
    monkeypatch.chdir(root)
    deepest = os.path.join(*["d"] * depth)
    os.mkdir("d")
    place = "d"
    for _ in range(depth - 1):
        place += "/d"
        os.mkdir(place)
    try:
        plant(root, deepest + "/x.jpg", "x.jpg")
        for follow_symlinks in (False, True):
            files = walk_of(root, follow_symlinks=follow_symlinks, exclude=["nothing"])
            assert [len(file.path) for file in files] == [5, 2 * depth + 5]
            assert files.unreadable == []
    finally:
        os.unlink(deepest + "/x.jpg")
        while place:
            os.rmdir(place)
            place = os.path.dirname(place)
        shutil.rmtree(root)
