"""Groups of near duplicates and bursts after indexing runs, on real photographs."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from PIL import ExifTags, Image

import mmsearch
from mmsearch.indexing import duplicates
from mmsearch.server.app import serve_in_thread
from tests.http_client import open_server_state

PHOTOS = sorted((Path(__file__).parents[1] / "photos/photos").glob("*.jpg"))
FIRST, SECOND, THIRD, _, FOURTH = PHOTOS[:5]


def save(image, path, taken_at=None, **options):
    exif = Image.Exif()
    if taken_at is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken_at
    image.convert("RGB").save(path, exif=exif, **options)


def half(path):
    with Image.open(path) as image:
        return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def moved(path, left, top):
    """Return a photograph of the same view by a camera that has moved."""
    with Image.open(path) as image:
        right, bottom = image.width - 20 + left, image.height - 20 + top
        return image.crop((left, top, right, bottom)).resize(image.size)


@pytest.fixture
def folder(tmp_path):
    """Two photographs with a copy each, a burst of three, and one photograph alone."""
    folder = tmp_path / "library"
    folder.mkdir()
    for name, path in (("a", FIRST), ("b", SECOND), ("alone", FOURTH)):
        shutil.copy(path, folder / f"{name}.jpg")
    save(half(FIRST), folder / "a-half.png")
    save(half(SECOND), folder / "b-web.jpg", quality=50)
    for number in range(3):
        taken_at = f"2024:06:01 10:00:{2 * number:02}"
        save(moved(THIRD, 6 * number, 4 * number), folder / f"c{number}.jpg", taken_at, quality=92)
    return folder


@pytest.fixture
def index(tmp_path):
    with mmsearch.open_index("duplicates", home=tmp_path / "home", model="starter") as index:
        yield index


def query(index, statement):
    with closing(sqlite3.connect(index.folder / "catalog.sqlite")) as db, db:
        return db.execute(statement).fetchall()


def groups(index, *, near=False):
    """Return the names of the files of each group."""
    found = {}
    for key, *names in query(
        index, "SELECT key, stack_id, near_id FROM duplicates JOIN assets USING (content_id)"
    ):
        found.setdefault(names[near], set()).add(key.decode())
    return sorted(sorted(group) for group in found.values() if len(group) > 1)


ALL = [["a-half.png", "a.jpg"], ["b-web.jpg", "b.jpg"], ["c0.jpg", "c1.jpg", "c2.jpg"]]


def test_copies_and_bursts_are_grouped(index, folder):
    index.add_folder(folder)
    assert groups(index) == ALL
    assert groups(index, near=True) == ALL[:2]


def test_second_run_does_nothing(index, folder, monkeypatch):
    index.add_folder(folder)
    (folder / "notes.txt").write_text("no picture")
    monkeypatch.setattr(duplicates, "find_pairs", None)
    index.add_folder(folder)
    assert groups(index) == ALL


def test_new_copies_join_groups(index, folder):
    index.add_folder(folder)
    with Image.open(FOURTH) as image:
        crop = image.crop((5, 5, image.width - 8, image.height - 6))
    save(crop, folder / "alone-crop.jpg", quality=90)
    save(half(FIRST), folder / "a-small.jpg", quality=70)
    index.add_folder(folder)
    assert groups(index) == [
        ["a-half.png", "a-small.jpg", "a.jpg"],
        ["alone-crop.jpg", "alone.jpg"],
        *ALL[1:],
    ]


def test_cells_of_vectors_find_the_same_groups(index, folder, monkeypatch):
    monkeypatch.setattr(duplicates, "MAX_COMPARISONS", 0)
    index.add_folder(folder)
    assert groups(index) == ALL


def test_one_picture_of_many_with_an_equal_hash_stands_for_them(index, folder, monkeypatch):
    monkeypatch.setattr(duplicates, "_MIN_EQUAL", 2)
    index.add_folder(folder)
    assert groups(index) == ALL


@pytest.mark.parametrize(
    "loss",
    [
        "DELETE FROM duplicates",
        "UPDATE settings SET value = json_set(value, '$.version', 0) WHERE key = 'duplicates'",
        "UPDATE settings SET value = json_set(value, '$.encoder', '') WHERE key = 'duplicates'",
        "UPDATE settings SET value = '[7]' WHERE key = 'duplicates'",
        "DELETE FROM settings WHERE key = 'duplicates'",
    ],
)
def test_lost_or_outdated_groups_are_made_again(index, folder, loss):
    index.add_folder(folder)
    index.close()
    (index.folder / "catalog.seal").unlink()
    query(index, loss)
    index.add_folder(folder)
    assert groups(index) == ALL


def test_deleted_copy_leaves_its_group(index, folder):
    index.add_folder(folder)
    (folder / "a.jpg").unlink()
    index.add_folder(folder)
    assert groups(index) == ALL[1:]
    shutil.copy(FIRST, folder / "a-again.jpg")
    index.add_folder(folder)
    assert groups(index) == [["a-again.jpg", "a-half.png"], *ALL[1:]]


def test_small_addition_to_large_index_waits(index, folder, monkeypatch):
    index.add_folder(folder)
    monkeypatch.setattr(duplicates, "MIN_DEFERRING_CONTENTS", 1)
    monkeypatch.setattr(duplicates, "MAX_DEFERRED_SHARE", 0.5)
    index.add([half(FOURTH)], ids=["half"])
    assert groups(index) == ALL


def test_damaged_catalog_gets_hashes_back_from_segments(index, folder):
    index.add_folder(folder)
    hashes = query(index, "SELECT perceptual_hash FROM items ORDER BY id")
    assert None not in {look for (look,) in hashes}
    index.close()
    (index.folder / "catalog.sqlite").unlink()
    index.repair()
    assert query(index, "SELECT perceptual_hash FROM items ORDER BY id") == hashes
    index.add_folder(folder)
    assert groups(index) == ALL


def test_compaction_and_another_encoder_keep_hashes(index, folder):
    index.add_folder(folder)
    (folder / "alone.jpg").unlink()
    index.add_folder(folder)
    index.compact()
    assert (None,) not in query(index, "SELECT perceptual_hash FROM items")
    assert groups(index) == ALL


def names(group):
    return [hit.path.name for hit in group.hits]


def test_groups_are_listed_with_what_to_keep(index, folder):
    shutil.copy(folder / "b.jpg", folder / "z.jpg")
    index.add_folder(folder)
    found = index.duplicates()
    assert found.counts == {"exact": 1, "near": 2, "burst": 1}
    assert (found.unhashed, found.next_cursor) == (0, None)
    by_kind = {}
    for group in found.groups:
        by_kind.setdefault(str(group.kind), []).append(names(group))
        assert [hit.keep for hit in group.hits] == [True] + [False] * (len(group.hits) - 1)
    assert sorted(map(sorted, by_kind["near"])) == [
        ["a-half.png", "a.jpg"],
        ["b-web.jpg", "b.jpg", "z.jpg"],
    ]
    assert [sorted(group) for group in by_kind["burst"]] == ALL[2:]
    assert [sorted(group) for group in by_kind["exact"]] == [["b.jpg", "z.jpg"]]
    kept = {names(group)[0]: group.hits[0].reason for group in found.groups}
    assert kept["a.jpg"] == "largest"


def test_pages_of_groups_are_the_whole_list(index, folder):
    shutil.copy(folder / "b.jpg", folder / "z.jpg")
    index.add_folder(folder)
    whole, pages, cursor = index.duplicates(), [], None
    while True:
        page = index.duplicates(limit=1, cursor=cursor)
        pages += page.groups
        cursor = page.next_cursor
        if cursor is None:
            break
    assert pages == list(whole.groups)
    near = [group for group in whole.groups if group.kind == "near"]
    assert list(index.duplicates("near").groups) == near


def test_wrong_arguments_are_refused(index, folder):
    index.add_folder(folder)
    for arguments in ({"kind": "same"}, {"limit": 0}, {"cursor": "x"}, {"limit": "many"}):
        with pytest.raises(mmsearch.MMSearchError):
            index.duplicates(**arguments)


def test_pictures_of_earlier_versions_are_counted(index, folder):
    index.add_folder(folder)
    index.close()
    (index.folder / "catalog.seal").unlink()
    query(index, "UPDATE items SET perceptual_hash = NULL WHERE id < 3")
    assert index.duplicates().unhashed == 2


def test_server_and_client_list_the_same_groups(index, folder, socket_enabled):
    index.add_folder(folder)
    whole = index.duplicates()
    index.close()
    with (
        open_server_state(index.folder.parent, names=[index.name]) as service,
        serve_in_thread(service, 0) as url,
        mmsearch.Client(url, index=index.name) as client,
    ):
        assert client.duplicates() == whole
        first = client.duplicates("near", limit=1)
        assert len(first.groups) == 1
        rest = client.duplicates("near", limit=1, cursor=first.next_cursor)
        near = [group for group in whole.groups if group.kind == "near"]
        assert [*first.groups, *rest.groups] == near
        for arguments in ({"kind": "same"}, {"limit": 0}, {"cursor": "x"}):
            with pytest.raises(mmsearch.MMSearchError):
                client.duplicates(**arguments)
