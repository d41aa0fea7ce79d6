"""Names of places that a catalog gives to pictures with coordinates."""

import pytest

from mmsearch.catalog import place_texts
from mmsearch.core import places
from mmsearch.core.display import format_place
from mmsearch.core.filter_tree import make_filter_tree
from mmsearch.core.filters import Filters
from mmsearch.core.records import EncodedPicture, IndexedFile, ShardCommit
from mmsearch.core.types import Metadata, Picture, Text
from tests.unit.catalog.samples import IDENTITY, digest_of, generation, seen, segment

LISBON = {"latitude": 38.7139, "longitude": -9.1394}
MUNICH = {"latitude": 48.1374, "longitude": 11.5755}
SEA = {"latitude": 40.0, "longitude": -30.0}


@pytest.fixture(autouse=True)
def identity(catalog):
    catalog.set_identity(IDENTITY)


def commit(catalog, root, *, texts=(), new=False, around=None, **fields):
    """Commit one new picture with the id 1."""
    picture = Picture(640, 480, "JPEG", texts=texts, **fields)
    write = catalog.commit_new if new else catalog.commit_shard
    write(
        ShardCommit(
            root.id,
            1,
            segment(1, 1),
            [EncodedPicture(1, digest_of("a"), picture)],
            [IndexedFile(seen(b"a.jpg"), digest_of("a"), **(around or {}))],
        )
    )


def change_sidecar(catalog, root, **around):
    placed = IndexedFile(seen(b"a.jpg", mtime_ns=8), digest_of("a"), **around)
    catalog.commit_shard(ShardCommit(root.id, 2, indexed=[placed]))


def read_places(catalog):
    with catalog.snapshot() as snapshot:
        texts = snapshot.records([1])[0].picture.texts
    return [text for text in texts if text.source == "gps"]


def names(catalog):
    return [text.text for text in read_places(catalog)]


def find(catalog, place):
    with catalog.snapshot() as snapshot:
        return snapshot.filter_ids(make_filter_tree(Filters(places=(place,)))).tolist()


@pytest.mark.parametrize("new", [False, True])
def test_a_picture_with_coordinates_gets_the_names_of_its_place(catalog, root, new):
    commit(catalog, root, new=new, **LISBON)
    (text,) = read_places(catalog)
    assert (text.kind, text.text, text.language) == ("place", "Lisbon; Portugal", "en")
    assert text.made_by == f"{places.data_version()}, 38.71390 -9.13940"
    assert catalog.list_stale(0, 10) == []


def test_names_are_found_by_filters_in_any_language(catalog, root):
    commit(catalog, root, **MUNICH)
    assert names(catalog) == ["Munich; Bavaria; Germany"]
    found = ["Munich", "münchen", "Monaco di Baviera", "Bayern", "Baviera", "Allemagne", "mun"]
    assert [place for place in found if find(catalog, place) != [1]] == []
    assert [place for place in ("Lisbon", "Austria", "Monaco") if find(catalog, place)] == []


def test_a_place_of_the_file_is_found_by_its_name_in_another_language(catalog, root):
    commit(catalog, root, texts=(Text("place", "Lisboa; Portugal"),))
    assert find(catalog, "Lissabon") == [1]
    assert find(catalog, "Porto") == []


@pytest.mark.parametrize("fields", [{}, SEA])
def test_no_place_is_named_without_coordinates_or_on_the_sea(catalog, root, fields):
    commit(catalog, root, **fields)
    assert names(catalog) == []


def test_coordinates_of_a_sidecar_name_the_place_again(catalog, root):
    commit(catalog, root, **LISBON)
    change_sidecar(catalog, root, overrides=Metadata(**MUNICH))
    assert names(catalog) == ["Munich; Bavaria; Germany"]
    change_sidecar(catalog, root)
    assert names(catalog) == ["Lisbon; Portugal"]


def test_names_go_with_the_coordinates(catalog, root):
    commit(catalog, root, around={"overrides": Metadata(**LISBON)})
    assert names(catalog) == ["Lisbon; Portugal"]
    change_sidecar(catalog, root)
    assert names(catalog) == []
    assert find(catalog, "Lisbon") == []


@pytest.mark.parametrize(
    ("own", "made", "label"),
    [
        ("Lissabon; Portugal", [], "Lissabon, Portugal"),
        ("Alfama", ["Portugal"], "Alfama, Portugal"),
        ("Portugal", ["Lisbon"], "Lisbon, Portugal"),
        ("Torre de Belém; Lisboa; Lisboa; Portugal", [], "Torre de Belém, Portugal"),
        ("Torre; Belém; Lisboa; Portugal", [], "Belém, Portugal"),
    ],
)
def test_what_a_file_says_of_its_place_comes_first_and_once(catalog, root, own, made, label):
    unique = "; ".join(dict.fromkeys(own.split("; ")))
    commit(catalog, root, texts=(Text("place", unique),), **LISBON)
    assert names(catalog) == made
    with catalog.snapshot() as snapshot:
        assert format_place(snapshot.records([1])[0].picture.texts) == label


def test_the_next_run_names_pictures_of_earlier_versions_and_data(catalog, root, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(place_texts, "_name_items", lambda db, coordinates: {})
        commit(catalog, root, **LISBON)
    assert names(catalog) == []
    at = generation(catalog)
    catalog.finish_run(catalog.begin_run(), "finished", {})
    assert names(catalog) == ["Lisbon; Portugal"]
    assert generation(catalog) > at
    at = generation(catalog)
    catalog.finish_run(catalog.begin_run(), "finished", {})
    assert generation(catalog) == at
    monkeypatch.setattr(places, "data_version", lambda: "later data")
    catalog.finish_run(catalog.begin_run(), "finished", {})
    assert [text.made_by for text in read_places(catalog)] == ["later data, 38.71390 -9.13940"]


def test_impossible_coordinates_name_nothing(catalog, root):
    commit(catalog, root, latitude=91.0, longitude=500.0)
    assert names(catalog) == []
