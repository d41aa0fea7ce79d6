"""Metadata of pictures: the picture file, what overrides it and what stands in for it."""

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters
from mmsearch.core.records import EncodedPicture, IndexedFile, ShardCommit
from mmsearch.core.types import Metadata, Picture, Text, merge_metadata
from tests.unit.catalog.samples import IDENTITY, digest_of, seen, segment

EMBEDDED = Metadata(
    taken_at="2021-05-01T00:00:00",
    taken_from="exif",
    camera="Epson V600",
    latitude=1.0,
    longitude=2.0,
    rating=2,
)
SIDECAR = Metadata(
    taken_at="1957-01-01T00:00:00", taken_from="sidecar", rating=5, label="Red", lens="50mm"
)
TAKEOUT = Metadata(
    taken_at="2020-01-01T00:00:00",
    taken_from="takeout",
    camera="Phone",
    latitude=8.0,
    longitude=9.0,
    label="Blue",
)


@pytest.fixture(autouse=True)
def identity(catalog):
    catalog.set_identity(IDENTITY)


def commit_new(catalog, root, embedded, files, texts=(), number=1):
    """Commit one new picture with an id and files by path."""
    fields = {name: value for name, value in vars(embedded).items() if name != "texts"}
    picture = Picture(640, 480, "TIFF", **fields, texts=texts)
    digest = content_of(number)
    catalog.commit_shard(
        ShardCommit(
            root.id,
            1,
            segment(number, 1),
            [EncodedPicture(number, digest, picture)],
            [IndexedFile(seen(path), digest, **around) for path, around in files.items()],
        )
    )


def content_of(number):
    return digest_of("a" * number)


def commit_files(catalog, root, files=None, removed=(), number=1):
    digest = content_of(number)
    placed = [IndexedFile(seen(path), digest, **around) for path, around in (files or {}).items()]
    catalog.commit_shard(ShardCommit(root.id, 2, indexed=placed, removed=removed))


def read(catalog, number=1):
    with catalog.snapshot() as snapshot:
        return snapshot.records([number])[0].picture


def test_sidecar_overrides_picture_file_and_takeout_fills_gaps(catalog, root):
    around = {"overrides": SIDECAR, "fallbacks": TAKEOUT}
    commit_new(catalog, root, EMBEDDED, {b"a.tif": around})
    assert read(catalog) == Picture(
        640,
        480,
        "TIFF",
        taken_at="1957-01-01T00:00:00",
        taken_from="sidecar",
        camera="Epson V600",
        lens="50mm",
        latitude=1.0,
        longitude=2.0,
        rating=5,
        label="Red",
    )


def test_sidecar_that_vanishes_restores_what_picture_file_says(catalog, root):
    commit_new(catalog, root, EMBEDDED, {b"a.tif": {"overrides": SIDECAR}})
    commit_files(catalog, root, {b"a.tif": {}})
    assert merge_metadata([read(catalog)]) == merge_metadata([EMBEDDED])


def test_fallback_of_one_copy_goes_with_it(catalog, root):
    unknown = Metadata()
    commit_new(catalog, root, unknown, {b"a.tif": {}, b"takeout/a.tif": {"fallbacks": TAKEOUT}})
    assert read(catalog).taken_from == "takeout"
    commit_files(catalog, root, removed=[b"takeout/a.tif"])
    assert merge_metadata([read(catalog)]) == merge_metadata([unknown])


def test_picture_with_new_texts_keeps_what_its_file_says(catalog, root):
    commit_new(catalog, root, EMBEDDED, {b"a.tif": {"overrides": SIDECAR}})
    merged = read(catalog)
    item = EncodedPicture(1, digest_of("a"), merged, keep_texts=True)
    catalog.commit_embeddings(segment(2, 1), [item])
    assert read(catalog) == merged
    commit_files(catalog, root, {b"a.tif": {}})
    assert merge_metadata([read(catalog)]) == merge_metadata([EMBEDDED])


def test_picture_decoded_again_is_merged_with_its_sidecar(catalog, root):
    commit_new(catalog, root, EMBEDDED, {b"a.tif": {"overrides": SIDECAR}})
    decoded = Picture(640, 480, "TIFF", camera="New reader", label="Green")
    item = EncodedPicture(1, digest_of("a"), decoded)
    catalog.commit_embeddings(segment(2, 1), [item])
    present = read(catalog)
    assert (present.camera, present.label, present.rating) == ("New reader", "Red", 5)


def test_damage_is_stored_and_survives_a_merge(catalog, root):
    picture = Picture(640, 480, "JPEG", damage="the last 3% are missing")
    placed = IndexedFile(seen(b"a"), digest_of("a"), overrides=SIDECAR)
    catalog.commit_shard(
        ShardCommit(
            root.id, 1, segment(1, 1), [EncodedPicture(1, digest_of("a"), picture)], [placed]
        )
    )
    assert read(catalog).damage == "the last 3% are missing"


def test_people_places_and_keywords_are_separate_lists(catalog, root):
    texts = (
        Text("keywords", "Lisbon; Beach"),
        Text("people", "Anna Lisbon; Bob"),
        Text("place", "Porto; Portugal"),
    )
    commit_new(catalog, root, Metadata(), {b"a": {}}, texts)
    found = {}
    with catalog.snapshot() as snapshot:
        for name in ("tags", "people", "places"):
            for value in ("lisbon", "bob", "PORTU", "beach"):
                filters = Filters(**{name: (value,)})
                found[name, value] = bool(snapshot.filter_ids(make_filter_tree(filters)).size)
    assert {key for key, passes in found.items() if passes} == {
        ("tags", "lisbon"),
        ("tags", "beach"),
        ("people", "lisbon"),
        ("people", "bob"),
        ("places", "PORTU"),
    }


sides = st.sampled_from([Metadata(), SIDECAR, TAKEOUT, Metadata(rating=1, camera="\u00e9")])
around_files = st.fixed_dictionaries({"overrides": sides, "fallbacks": sides})


@pytest.fixture(scope="module")
def shared_catalog(open_new, tmp_path_factory):
    """A catalog for all examples, each of which has a folder and a picture of its own."""
    path = tmp_path_factory.mktemp("shared") / "catalog.sqlite"
    with closing(open_new(path, create=True)) as catalog:
        catalog.set_identity(IDENTITY)
        yield catalog


@given(
    st.sampled_from([EMBEDDED, Metadata()]),
    st.lists(
        st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.none() | around_files, min_size=1),
        max_size=4,
    ),
)
def test_metadata_after_any_commits_is_that_of_present_files(shared_catalog, embedded, commits):
    catalog = shared_catalog
    number, _ = catalog.next_free_ids()
    root = catalog.ensure_root(b"/photos-%d" % number)[0]
    commit_new(catalog, root, embedded, {b"z": {}}, number=number)
    present = {}
    for commit in commits:
        changed = {path: around for path, around in commit.items() if around is not None}
        removed = [path for path, around in commit.items() if around is None]
        commit_files(catalog, root, changed, removed, number=number)
        present = {
            path: around for path, around in (present | changed).items() if path not in removed
        }
        files = [present[path] for path in sorted(present)]
        candidates = [
            *(around["overrides"] for around in files),
            embedded,
            *(around["fallbacks"] for around in files),
        ]
        assert merge_metadata([read(catalog, number)]) == merge_metadata(candidates)
