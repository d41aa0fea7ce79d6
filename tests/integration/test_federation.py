"""Searches in two indexes give what one index of all pictures gives, by value."""

import shutil

import pytest

import mmsearch as library
from mmsearch.core.errors import InvalidQueryError, StateError, UnknownIndexError, UsageError
from mmsearch.core.filters import FILTERS_BY_NAME
from mmsearch.core.query import SearchRequest, Term
from tests.integration.test_facets import PICTURES, write_picture
from tests.pdf_files import pdf, words

QUERIES = {
    "words": "a windmill",
    "several words": "a dog running in the snow",
    "words of captions": "old bridge over a river",
    "words of names": "castle-17",
    "a word of one index": "impeller",
    "misspelt": "windmil near a castel",
    "stop words": "at the of",
    "another language": "ein Hund im Schnee",
    "a person": "Anna in July 2019",
    "a place": "boats in Lisbon",
    "a date": "2019",
    "terms": "2:a boat + sea",
    "without": "a boat -people",
}
OPTIONS = {
    "vectors": {"mode": "vector"},
    "texts": {"mode": "text"},
    "hybrid": {"mode": "hybrid"},
    "as it is": {},
    "width": {"filters": {"min_width": 400}},
    "after": {"filters": {"after": "2019-07-02"}},
    "person": {"filters": {"people": ["Anna"]}},
    "condition": {"filters": {"where": "orientation == 'landscape' or 'sea' in tags"}},
    "path": {"filters": {"paths": ["*.pdf", "*castle*"]}},
    "by name": {"sort": "name"},
    "newest": {"sort": "-date"},
    "unfolded": {"fold": False},
    "scores": {"min_score": 0.1, "min_confidence": 0.05},
}


CAPTIONS = (
    "an old stone bridge over a river",
    "a dog in deep snow",
    "the windmill behind the castle",
    "boats in the harbour at dusk",
)


def copy_folder(folder, sources, first, pages):
    """Write photographs with captions, some with metadata, and perhaps a document."""
    folder.mkdir()
    for number, source in enumerate(sources, first):
        shutil.copy(source, folder / f"castle-{number}.jpg")
        if number % 3 == 0:
            (folder / f"castle-{number}.txt").write_text(CAPTIONS[number % len(CAPTIONS)])
    for number, (place, *known) in enumerate(PICTURES):
        if number % 2 == first % 2:
            write_picture(sources[number], folder / place / f"known-{number}.jpg", *known)
    if pages:
        (folder / "manual.pdf").write_bytes(pdf([words(*lines) for lines in pages]))


def remove_some(folder):
    """Remove a photograph of each folder, and one that the other folder has, too."""
    (folder / "a" / "castle-5.jpg").unlink()
    (folder / "b" / "castle-40.jpg").unlink()
    (folder / "a" / "castle-twice.jpg").unlink()


@pytest.fixture(scope="module", params=["pictures", "documents"])
def library_home(request, photos, environment, tmp_path_factory):
    """A folder of two folders, and the home of their indexes and of one that has both."""
    folder, home = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("home")
    sources = sorted((photos / "photos").glob("*.jpg"))[:61]
    pages = {"a": [], "b": []}
    if request.param == "documents":
        pytest.importorskip("pypdfium2")
        pages["a"] = [(f"chapter {page}", "the impeller") for page in range(1, 6)]
        pages["b"] = [(f"chapter {page}", "of the pump", "and its oil") for page in range(1, 4)]
    copy_folder(folder / "a", sources[:30], 0, pages["a"])
    copy_folder(folder / "b", sources[30:60], 31, pages["b"])
    for name in ("a", "b"):
        # One content is in both folders; of another one, a later run removes a place.
        shutil.copy(sources[0], folder / name / "castle-again.jpg")
        shutil.copy(sources[60], folder / name / "castle-twice.jpg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", environment["MMSEARCH_CACHE"])
        for removed in (False, True):
            if removed:
                remove_some(folder)
            for index_name, folders in {"a": "a", "b": "b", "both": "ab"}.items():
                with library.open_index(index_name, home=home, model="starter") as index:
                    for name in folders:
                        assert not index.add_folder(folder / name).failed
    return folder, home


@pytest.fixture(scope="module")
def home(library_home):
    return library_home[1]


@pytest.fixture(scope="module")
def both(home):
    with library.open_index("both", home=home) as index:
        yield index


@pytest.fixture(scope="module")
def federated(home):
    with library.open_indexes(["a", "b"], home=home) as indexes:
        yield indexes


def rounded(value):
    """Return values of JSON with rounded numbers: the order of sums depends on that of the ids."""
    if isinstance(value, float):
        return round(value, 9)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def described(hits):
    """Return hits without the ids, which are those of another index."""
    found = []
    for hit in hits:
        values = rounded(hit.to_dict())
        for name in ("id", "index"):
            values.pop(name, None)
        for part in ("moments", "duplicates"):
            values[part] = [{**each, "id": 0} for each in values[part]]
        found.append(values)
    return found


def explained(result):
    """Return what a result says beside its hits."""
    values = result.to_dict()
    left_out = ("hits", "generation", "timings_s", "devices")
    return {name: value for name, value in values.items() if name not in left_out}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_search_in_two_indexes_equals_search_in_one(federated, both, options):
    options = dict(options)
    known = {name: options.pop(name) for name in ("filters", "mode") if name in options}
    queries = [library.parse_query(line, syntax=True, **known) for line in QUERIES.values()]
    requests = [SearchRequest(query, 20, **options) for query in queries]
    answers = zip(
        requests, both.search_many(requests), federated.search_many(requests), strict=True
    )
    for request, one, several in answers:
        assert described(several.hits) == described(one.hits), request
        assert explained(several) == explained(one), request


def counted(facets):
    """Return facets as values, without the generation."""
    return {name: value for name, value in facets.to_dict().items() if name != "generation"}


FACET_OPTIONS = {
    "all": {},
    "unfolded": {"fold": False},
    "few values": {"limit": 2},
    "width": {"filters": {"min_width": 400}},
    "after": {"filters": {"after": "2019-07-02"}},
    "file dates": {"filters": {"after": "2019", "file_dates": True}},
    "person": {"filters": {"people": ["Anna"]}},
    "condition": {"filters": {"where": "orientation == 'landscape' or 'sea' in tags"}},
    "path": {"filters": {"paths": ["*.pdf", "*castle*"]}},
    "nothing": {"filters": {"after": "2090"}},
}


@pytest.mark.parametrize("options", FACET_OPTIONS.values(), ids=FACET_OPTIONS)
def test_facets_of_two_indexes_equal_those_of_one(federated, both, options):
    assert both.facets()["camera"].values
    for query in ("", *QUERIES.values()):
        several, one = (index.facets(query, **options) for index in (federated, both))
        assert counted(several) == counted(one), query


def test_value_of_a_facet_narrows_to_as_many_pictures(federated):
    for fold in (True, False):
        for facet in federated.facets(fold=fold).facets:
            for value in facet.values:
                filters = library.parse_filters(
                    **{FILTERS_BY_NAME[name].keyword: v for name, v in value.filter.items()}
                )
                found = federated.facets(filters=filters, fold=fold)
                assert found.counted == value.count, (facet.field, value)


def test_hits_are_feedback_on_what_is_counted(federated, both):
    own, others = (each.search("a windmill", k=9, fold=False) for each in (both, federated))
    several = federated.facets("a castle", like=[others[4]], unlike=others[0])
    one = both.facets("a castle", like=[own[4]], unlike=own[0])
    assert counted(several) | {"query": ""} == counted(one) | {"query": ""}
    assert f"picture {others[4].index}:{others[4].id}" in several.query
    with pytest.raises(InvalidQueryError, match="does not say which of the indexes"):
        federated.facets("a castle", like=[own[4].id])


@pytest.mark.parametrize("kinds", [["tag"], ["person"], ["place"], ["tag", "person", "place"]])
def test_suggested_names_of_two_indexes_equal_those_of_one(federated, both, kinds):
    for prefix in ("", *"abcdefghijklmnopqrstuvwxyz", "anna in li", "a photo of the se"):
        listed = []
        for index in (federated, both):
            found = index.suggest(prefix, 50, kinds=kinds)
            listed.append([(each.text, each.kind, each.count) for each in found])
        assert listed[0] == listed[1], prefix
        assert listed[1] or prefix


@pytest.mark.parametrize("query", ["a dog", "old bridge over a river", "2019", "-snow + a boat"])
@pytest.mark.parametrize("mode", [None, "vector", "text"])
def test_short_result_begins_the_long_one(federated, query, mode):
    parsed = library.parse_query(query, mode=mode)
    whole = federated.query(SearchRequest(parsed, 70)).hits
    assert len({(hit.index, hit.id) for hit in whole}) == len(whole)
    for k in (1, 5, 13, 40):
        assert described(federated.query(SearchRequest(parsed, k)).hits) == described(whole[:k])


def test_pictures_of_the_indexes_and_others_are_searched_alike(
    library_home, federated, both, photos
):
    folder, _ = library_home
    files = [folder / "a/castle-3.jpg", folder / "b/castle-33.jpg", folder / "b/castle-again.jpg"]
    files.append(sorted((photos / "photos").glob("*.jpg"))[100])
    for file in files:
        for line in (str(file), f"{file} + a dog", f"{file} - snow"):
            request = SearchRequest(library.parse_query(line, syntax=True), 30)
            one, several = both.query(request), federated.query(request)
            assert described(several.hits) == described(one.hits), line
            assert explained(several) == explained(one), line


@pytest.mark.parametrize(
    ("like", "unlike"), [([0], []), ([1, 5], [3]), ([], [2]), ([7], [0, 9]), ([20], [30])]
)
@pytest.mark.parametrize("mode", [None, "vector", "text"])
def test_hits_of_all_indexes_are_feedback(federated, both, like, unlike, mode):
    own, others = (each.search("a windmill", k=40, fold=False) for each in (both, federated))
    assert {hit.index for hit in others} == {"a", "b"}

    def search(index, hits):
        chosen = {"like": [hits[n] for n in like], "unlike": [hits[n] for n in unlike]}
        return described(index.search("a windmill", k=30, mode=mode, **chosen))

    assert search(federated, others) == search(both, own)


def test_hit_is_a_picture_of_its_index(home, federated):
    (hit,) = federated.search("a windmill", k=1)
    with library.open_index(hit.index, home=home) as index:
        assert index.picture(hit.id).paths[0] == str(hit.path).encode()
        assert federated.thumbnail(hit) == index.thumbnail(hit.id)
        assert federated.original(hit) == hit.path
    pair = (hit.index, hit.id)
    assert federated.similar(hit, k=5) == federated.similar(pair, k=5)
    assert federated.similar(hit, k=5)[0].id == hit.id
    assert federated.search("", like=pair, k=5) == federated.search("", like=[hit], k=5)
    assert (
        federated.query(
            SearchRequest(library.Query((Term(picture=federated.picture_id(hit)),)))
        ).query
        == f"picture {hit.index}:{hit.id}"
    )


def test_content_in_both_indexes_is_one_hit(library_home, federated):
    hits = federated.search("castle again", k=70, fold=False)
    (hit,) = [hit for hit in hits if "castle-again.jpg" in str([hit.path, *hit.copies])]
    assert hit.index == "a"
    assert sorted(path.parent.name for path in (hit.path, *hit.copies)) == ["a", "a", "b"]
    path = str(library_home[0] / "b" / "castle-again.jpg")
    only = federated.search("castle again", filters={"paths": [path]})
    assert [(found.index, found.id) for found in only] == [(hit.index, hit.id)]


def test_ids_without_an_index_are_refused(federated, both):
    hit = both.search("a dog", k=1)[0]
    for call in (
        lambda: federated.search("a dog", like=[hit.id]),
        lambda: federated.search("a dog", unlike=hit),
        lambda: federated.similar(hit.id),
        lambda: federated.similar(("none", 1)),
        lambda: federated.thumbnail(hit),
        lambda: federated.query(SearchRequest(library.Query((Term(picture=1),)))),
        lambda: federated.query(SearchRequest(library.Query((Term(picture=9 << 40),)))),
    ):
        with pytest.raises(InvalidQueryError, match="does not say which of the indexes"):
            call()


def test_files_of_several_indexes_are_refused(federated):
    with federated._session.catalog() as catalog, catalog.snapshot() as snapshot:
        for read in (
            lambda: snapshot.built,
            lambda: snapshot.unindexed_segments,
            lambda: snapshot.changed_fields,
            snapshot.stale_rows,
            lambda: snapshot.moved_ids(1),
            lambda: snapshot.find_segments([1]),
        ):
            with pytest.raises(StateError, match="no files in common"):
                read()


def test_names_are_checked(home):
    for names in ([], ["a", "a"], ["a", "../b"]):
        with pytest.raises(UsageError):
            library.open_indexes(names, home=home)
    with (
        library.open_indexes(["a", "none"], home=home) as indexes,
        pytest.raises(UnknownIndexError, match="'none'"),
    ):
        indexes.search("a dog")


def test_indexes_of_other_models_or_fusions_are_refused(home, tmp_path, tiny_clip, photos):
    shutil.copytree(home, tmp_path / "home")
    picture = min((photos / "photos").glob("*.jpg")).read_bytes()
    with library.open_index("other", home=tmp_path / "home", model=str(tiny_clip)) as index:
        index.add([picture])
    with library.open_index("fused", home=tmp_path / "home") as index:
        index.add([picture], texts=["a castle"])
        index.reindex(fusion="weighted", text_weight=0.5)
    for name, reason in (("other", "their models are starter and "), ("fused", "their fusions")):
        with (
            library.open_indexes(["a", name], home=tmp_path / "home") as indexes,
            pytest.raises(UsageError, match=reason),
        ):
            indexes.search("a dog")


def test_changes_of_an_index_are_seen_and_empty_indexes_are_searched(home, tmp_path, photos):
    shutil.copytree(home, tmp_path / "home")
    pictures = sorted((photos / "photos").glob("*.jpg"))
    with library.open_index("new", home=tmp_path / "home") as index:
        index.add([])
        with library.open_indexes(["new", "a"], home=tmp_path / "home") as indexes:
            before = indexes.query(SearchRequest(library.parse_query("a dog"), 5))
            assert {hit.index for hit in before.hits} == {"a"}
            index.add([pictures[120].read_bytes()], ids=["new"], texts=["an unheard-of gryphon"])
            after = indexes.query(SearchRequest(library.parse_query("gryphon"), 5))
            assert (after.hits[0].index, after.hits[0].key) == ("new", "new")
            assert after.generation > before.generation
            assert after.pictures == before.pictures + 1
            # The first index that has a content owns it.
            index.add([pictures[1].read_bytes()], ids=["known"])
            again = indexes.query(SearchRequest(library.parse_query("gryphon"), 100, fold=False))
            assert again.pictures == after.pictures
            (hit,) = [hit for hit in again.hits if "known" in hit.keys]
            assert (hit.index, hit.path.name) == ("new", "castle-1.jpg")
