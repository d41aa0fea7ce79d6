"""Facets of an index of photographs with metadata: counts, filters that narrow, searches."""

import asyncio
import shutil

import httpx
import pytest
from PIL import Image

import mmsearch
from mmsearch.catalog.snapshot import SqlSnapshot
from mmsearch.core.errors import InvalidQueryError, UnknownIndexError
from mmsearch.core.facets import FACET_FIELDS, Facets, apply_narrowing
from mmsearch.core.filters import NO_FILTERS, Filters
from mmsearch.core.query import HITS_LIMIT, Query, SearchRequest
from mmsearch.factories import catalogs
from mmsearch.mcp.facets import FacetsArguments
from mmsearch.mcp.tools import Tools
from mmsearch.server.app import make_app, serve_in_thread
from tests.http_client import http_client, open_server_state
from tests.stacked_index import write_stacks

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><rdf:Description photoshop:City="{city}"
 photoshop:Country="{country}" xmp:Rating="{rating}">
 <ext:PersonInImage><rdf:Bag>{people}</rdf:Bag></ext:PersonInImage>
 <dc:subject><rdf:Bag>{tags}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""

PICTURES = (
    # folder, taken, camera, city, country, people, tags, rating
    ("2019/Lisbon", "2019:07:01", "EOS 5D", "Lisbon", "Portugal", ("Anna",), ("sea",), 5),
    ("2019/Lisbon", "2019:07:02", "EOS 5D Mark II", "Lisbon", "Portugal", ("Anna", "Bert"), (), 5),
    (
        "2019/Porto",
        "2019:08:01",
        "EOS 5D",
        "Porto",
        "Portugal",
        ("Anna Maria",),
        ("sea", "Boat"),
        3,
    ),
    ("2020", "2020:01:01", "eos 5d", "Berlin", "Germany", (), ("Snow",), 0),
    ("2020", "2020:12:31", "EOS 5D", "Port", "Portugal", ("Bert",), ("snow",), 4),
    ("2020/x [1]", None, None, "", "", (), (), 3),
)


def write_picture(source, path, taken, camera, city, country, people, tags, rating):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = f"{taken} 12:00:00"
        exif[0x0132] = f"{taken} 12:00:00"
        exif[0x010F], exif[0x0110] = "Canon", camera
    with Image.open(source) as image:
        image.convert("RGB").save(path, exif=exif)
    items = {
        name: "".join(f"<rdf:li>{word}</rdf:li>" for word in words)
        for name, words in (("people", people), ("tags", tags))
    }
    xmp = XMP.format(city=city, country=country, rating=rating, **items)
    path.with_name(f"{path.name}.xmp").write_text(xmp)


@pytest.fixture(scope="module")
def shared_home(photos, tmp_path_factory):
    home, folder = (tmp_path_factory.mktemp(name) for name in ("home", "folder"))
    sources = sorted((photos / "photos").glob("*.jpg"))
    for number, ((place, *known), source) in enumerate(zip(PICTURES, sources, strict=False)):
        write_picture(source, folder / place / f"{number}.jpg", *known)
    with mmsearch.open_index(home=home) as index:
        assert index.add_folder(folder).added == len(PICTURES)
    return home


@pytest.fixture
def index(shared_home, tmp_path):
    shutil.copytree(shared_home, tmp_path / "home")
    with mmsearch.open_index(home=tmp_path / "home") as index:
        yield index


def counts(found, field):
    return {value.value: value.count for value in found[field].values}


def count_hits(index, filters):
    """Return the number of hits that pass the filters, as a search lists them."""
    query = mmsearch.parse_query("a picture", filters=filters, mode="vector")
    return len(index.query(SearchRequest(query, HITS_LIMIT)).hits)


EXPECTED = {
    "year": {"2020": 2, "2019": 3},
    "month": {"2020-12": 1, "2020-01": 1, "2019-08": 1, "2019-07": 2},
    "place": {"Portugal": 4, "Lisbon": 2, "Berlin": 1, "Germany": 1, "Port": 1, "Porto": 1},
    "person": {"Anna": 2, "Bert": 2, "Anna Maria": 1},
    "camera": {"Canon EOS 5D": 4, "Canon EOS 5D Mark II": 1},
    "folder": {"2019": 3, "2020": 3},
    "format": {"JPEG": 6},
    "kind": {"image": 6},
    "tag": {"sea": 2, "Snow": 2, "Boat": 1},
    "rating": {"5": 2, "4": 1, "3": 2, "0": 1},
}


def test_facets_count_every_field_and_filter_lists_exactly_as_many_hits(index):
    found = index.facets()
    assert (found.query, found.counted, found.of, found.fold) == ("", 6, 6, True)
    assert {facet.field: counts(found, facet.field) for facet in found.facets} == EXPECTED
    assert [facet.field for facet in found.facets] == list(FACET_FIELDS)
    assert {facet.field: facet.missing for facet in found.facets if facet.missing} == {
        "year": 1, "month": 1, "place": 1, "person": 2, "camera": 1, "tag": 2,
    }  # fmt: skip
    for facet in found.facets:
        for value in facet.values:
            assert count_hits(index, apply_narrowing(NO_FILTERS, value.filter)) == value.count


@pytest.mark.parametrize(
    "filters",
    [
        Filters(people=("anna",)),
        Filters(after="2019-07-02", before="2020-06", cameras=("5d",)),
        Filters(paths=("/2019/",), where="rating > 3"),
        Filters(places=("port",), tags=("sea",)),
    ],
)
def test_facets_with_filters_narrow_further(index, filters):
    found = index.facets(filters=filters)
    assert found.counted == found.of == count_hits(index, filters) > 0
    for facet in found.facets:
        for value in facet.values:
            assert count_hits(index, apply_narrowing(filters, value.filter)) == value.count
            assert value.count <= found.counted


def test_facets_fold_stacks_as_a_search_lists_them(index, shared_home):
    with catalogs.open_read(index._layout) as catalog, catalog.snapshot() as snapshot:
        ids = snapshot.list_ids(0, len(PICTURES))
    write_stacks(index._layout, [[ids[:2], ids[3:4]]])
    with mmsearch.open_index(home=index.folder.parent) as reopened:
        found = reopened.facets()
        assert (found.counted, found.of) == (4, 6)
        for facet in found.facets:
            for value in facet.values:
                narrowed = apply_narrowing(NO_FILTERS, value.filter)
                assert count_hits(reopened, narrowed) == value.count
        each = reopened.facets(fold=False)
        assert {facet.field: counts(each, facet.field) for facet in each.facets} == EXPECTED


def test_facets_of_description_count_its_hits_without_weak_matches(photo_index):
    with mmsearch.open_index(home=photo_index) as index:
        query = mmsearch.parse_query("a dog", syntax=False)
        request = SearchRequest(query, HITS_LIMIT, fold=False)
        result = index.query(request)
        found = index.facets("a dog", fields="format", fold=False)
        strong = [hit for hit in result.hits if hit.band != "unlikely"]
        assert result.calibrated
        assert 0 < found.counted == len(strong) < found.of == result.passed
        assert sum(counts(found, "format").values()) == len(strong)
        weak = index.facets("a windmill at night in the rain", fields="kind", fold=False)
        assert (weak.match, weak.counted) == ("unlikely", weak.of)
        alike = index.facets(like=strong[0], fields=["kind"])
        assert 0 < counts(alike, "kind")["image"] <= alike.of


def test_facets_read_dates_and_people_in_words_as_a_search_does(index):
    found = index.facets("photos of Anna in July 2019", fields=["month", "person"])
    assert (found.understood.after, found.understood.people) == ("2019-07-01", ("Anna",))
    only = index.facets("2019", fields=["month", "person", "kind"])
    assert (only.query, only.counted, only.of) == ("2019", 3, 3)
    assert counts(only, "month") == {"2019-08": 1, "2019-07": 2}
    for facet in only.facets:
        for value in facet.values:
            filters = apply_narrowing(NO_FILTERS, value.filter)
            request = SearchRequest(mmsearch.parse_query("2019", filters=filters))
            assert index.query(request).passed == value.count
    literal = index.facets("2019", fields="month", literal=True)
    assert (literal.understood, literal.of) == (None, len(PICTURES))


def test_facet_of_a_person_keeps_the_person_in_the_words(index):
    found = index.facets("Anna", fields="person")
    assert (found.counted, counts(found, "person")) == (2, {"Anna": 2, "Bert": 1})
    (bert,) = (value for value in found["person"].values if value.value == "Bert")
    assert bert.filter == {"person": ["=Anna", "=Bert"]}


def test_facets_of_folder_are_those_below_it(index):
    (narrowest, *_) = index.facets(fields="folder", filters={"path": "/2019/"})["folder"].values
    assert (narrowest.value, narrowest.count) == ("2019/Lisbon", 2)
    below = index.facets(fields="folder", filters={"path": "/2020/"})["folder"]
    assert ([value.value for value in below.values], below.missing) == (["2020/x [1]"], 2)


def test_facets_follow_changes_of_the_index(index, tmp_path, photos):
    assert counts(index.facets(fields="year"), "year") == EXPECTED["year"]
    write_picture(
        max((photos / "photos").glob("*.jpg")), tmp_path / "new" / "n.jpg",
        "2021:05:05", "X", "", "", (), (), 1,
    )  # fmt: skip
    index.add_folder(tmp_path / "new")
    assert counts(index.facets(fields="year"), "year") == {"2021": 1, **EXPECTED["year"]}


def test_facets_with_too_many_values_say_how_many_pictures_are_left(index):
    (facet,) = index.facets(fields="place", limit=2).facets
    assert [value.value for value in facet.values] == ["Portugal", "Lisbon"]
    assert (facet.other, facet.missing, facet.distinct) == (1, 1, 6)


def test_facets_as_json_are_read_again(index):
    found = index.facets("sea", fields=["year", "tag"])
    assert Facets.from_dict(found.to_dict()) == found


def test_facets_of_wrong_arguments_raise_errors_that_say_what_is_right(index, tmp_path):
    with pytest.raises(InvalidQueryError, match=r"^Pictures are not counted by 'decade'. Known"):
        index.facets(fields=["decade"])
    with pytest.raises(InvalidQueryError, match="limit of 1 to 1,000"):
        index.facets(limit=0)
    with mmsearch.open_index("other", home=tmp_path) as other, pytest.raises(UnknownIndexError):
        other.facets()
    assert index.facets(Query(())).counted == len(PICTURES)


AT = "/v1/indexes/default"
FILTERED = {"filters": {"person": ["anna"], "where": "rating > 3"}, "fields": ["year", "camera"]}


def test_http_facets_are_those_of_the_index_by_body_and_by_url(index):
    expected = index.facets(filters=FILTERED["filters"], fields=FILTERED["fields"]).to_dict()
    params = {"person": "anna", "where": "rating > 3", "fields": ["year", "camera"]}
    with http_client(index.folder.parent) as server:
        posted = server.post(f"{AT}/facets", json=FILTERED)
        assert (posted.status_code, posted.json()) == (200, expected)
        assert server.get(f"{AT}/facets", params=params).json() == expected
        with_commas = params | {"fields": "year, camera"}
        assert server.get(f"{AT}/facets", params=with_commas).json() == expected
        everything = server.get(f"{AT}/facets").json()
        assert everything == index.facets().to_dict()
        for facet in everything["facets"]:
            for value in facet["values"]:
                body = {"query": "a picture", "mode": "vector", "filters": value["filter"]}
                answer = server.post(f"{AT}/search", json=body).json()
                assert answer["passed"] == len(answer["hits"]) == value["count"]
        body = {"query": "a dog", "fields": ["kind"], "limit": 3, "fold": False}
        described = server.post(f"{AT}/facets", json=body).json()
        read = server.get(f"{AT}/facets", params={"q": "2019", "fields": "year"}).json()
        assert read["understood"]["after"] == "2019-01-01"
        assert read == index.facets("2019", fields="year").to_dict()
        body_of_words = {"query": "2019", "fields": ["year"], "literal": True}
        assert server.post(f"{AT}/facets", json=body_of_words).json()["understood"] is None
        assert described["query"] == "a dog"
        assert described == index.facets("a dog", fields="kind", limit=3, fold=False).to_dict()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"fields": ["decade"]}, "fields"),
        ({"fields": []}, "fields"),
        ({"limit": 0}, "limit"),
        ({"sort": "date"}, "sort"),
        ({"by": ["year"]}, "by is unknown (did you mean 'fields'?)"),
        ({"query": "/etc/passwd"}, "cannot name files"),
        ({"like": [True]}, "like.0 must be a whole number"),
        ({"unlike": [1]}, "only says what pictures should not look like"),
        ({"filters": {"after": "soon"}}, "soon"),
    ],
)
def test_http_facets_of_wrong_requests_say_what_is_wrong(index, body, detail):
    with http_client(index.folder.parent) as server:
        answer = server.post(f"{AT}/facets", json=body)
    assert 400 <= answer.status_code < 500
    assert detail in answer.json()["detail"]


def test_client_facets_are_those_of_the_index(index, socket_enabled):
    expected = index.facets(**FILTERED)
    with open_server_state(index.folder.parent) as state:
        with serve_in_thread(state, 0) as url, mmsearch.Client(url) as client:
            assert client.facets(**FILTERED) == expected
            assert client.facets() == index.facets()
            assert client.facets("a dog", limit=2) == index.facets("a dog", limit=2)
            clicks = {"like": 3, "unlike": [1, 2]}
            assert client.facets("a dog", **clicks) == index.facets("a dog", **clicks)
            query = Query((), Filters(people=("anna",)))
            assert client.facets(query) == index.facets(query)
            with pytest.raises(InvalidQueryError, match="'decade'"):
                client.facets(fields="decade")

        async def ask():
            transport = httpx.ASGITransport(make_app(state))
            async with mmsearch.AsyncClient("http://127.0.0.1", transport=transport) as client:
                return await client.facets(**FILTERED), await client.facets("a dog", **clicks)

        assert asyncio.run(ask()) == (expected, index.facets("a dog", **clicks))


def test_assistant_counts_years_and_is_given_the_arguments_that_narrow(index):
    with open_server_state(index.folder.parent) as state:
        tools = Tools(state.index_pool.worker("default"), None)
        answer = asyncio.run(tools.facets(FacetsArguments(by="year", person=["Bert"])))
        narrowing = answer.structured.facets[0].values[0].filter
        assert narrowing == {"after": "2020", "before": "2021"}
        arguments = FacetsArguments(by=["camera"], person=["Bert"], **narrowing)
        (camera,) = asyncio.run(tools.facets(arguments)).structured.facets
        described = asyncio.run(tools.facets(FacetsArguments(by=["kind"], query="a dog")))
        clicked = FacetsArguments(by="kind", query="a dog", like=3, unlike=[1, 2])
        others = asyncio.run(tools.facets(clicked)).structured
        alike = asyncio.run(tools.facets(FacetsArguments(by="kind", like=3, unlike=1))).structured
        with pytest.raises(InvalidQueryError, match="words only"):
            asyncio.run(tools.facets(FacetsArguments(by=["kind"], query="/etc/passwd")))
    assert answer.blocks == (
        "2 pictures are counted, of 2 that pass the filters.\nYear:\n"
        "   2020: 1 (after='2020', before='2021')\n   2019: 1 (after='2019', before='2020')",
    )
    assert [(value.value, value.count) for value in camera.values] == [("Canon EOS 5D", 1)]
    assert described.structured.of == len(PICTURES)
    clicks = {"fields": "kind", "like": 3, "unlike": [1, 2]}
    assert others.counted == index.facets("a dog", **clicks).counted
    assert alike.counted == index.facets(fields="kind", like=3, unlike=1).counted


def test_facets_list_people_once_a_generation(index, monkeypatch):
    calls = []
    list_people = SqlSnapshot.list_people
    monkeypatch.setattr(
        SqlSnapshot, "list_people", lambda snapshot: calls.append(1) or list_people(snapshot)
    )
    with mmsearch.open_index(index.name, home=index.folder.parent) as opened:
        for query in ("Anna", "Anna in 2019", "a dog"):
            opened.facets(query, fields="person")
        opened.search("Anna")
    assert len(calls) == 1
