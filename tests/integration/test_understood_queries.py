"""Queries with dates and names of people, on photographs that have both."""

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest
from PIL import Image

import mmsearch as library
from benchmarks.quality.trips_library import Copy, save_picture
from mmsearch.core.errors import InvalidQueryError
from mmsearch.core.query import Query, SearchRequest, Term
from mmsearch.search import query_reader
from mmsearch.server.app import serve_in_thread
from tests.http_client import http_client, open_server_state

LISBON, PORTO, BERLIN = (38.72, -9.14), (41.15, -8.61), (52.52, 13.41)
AOSTA = (45.7372, 7.3201)
FACTS = {
    "beach.jpg": ("2019-07-03T12:00", ("Anna",), LISBON),
    "dog.jpg": ("2019-07-20T12:00", ("Anna", "Maria Rossi"), PORTO),
    "bridge.jpg": ("2021-12-25T18:00", (), BERLIN),
    "castle.jpg": ("2021-03-01T09:00", ("Maria Rossi",), AOSTA),
    "boat.jpg": ("2024-07-01T09:00", ("Joanna",), None),
    "horse.jpg": (None, ("Anna",), None),
    "palm.jpg": ("2022-05-05T12:00", (), (39.57, 2.65)),
    "sail.jpg": ("2022-05-06T12:00", (), (42.78, 10.27)),
    "shore.jpg": ("2022-05-07T12:00", (), (45.81, 9.0852)),
}
"""Date, people and coordinates of each photograph."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("understood")
    sources = sorted((photos / "photos").iterdir())
    for (name, (taken_at, people, place)), source in zip(FACTS.items(), sources, strict=False):
        date = None if taken_at is None else datetime.fromisoformat(taken_at)
        with Image.open(source) as picture:
            save_picture(
                folder / name, picture, Copy(name, "photo", "", "", date, place, people), ("", "")
            )
    return folder


@pytest.fixture(scope="module")
def home(folder, mmsearch, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    mmsearch("index", folder, "--home", home, "--model", "starter")
    return home


@pytest.fixture
def index(home):
    with library.open_index(home=home) as opened:
        yield opened


def names(hits):
    return [hit.path.name for hit in hits]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("2019", ["dog.jpg", "beach.jpg"]),
        ("in July", ["boat.jpg", "dog.jpg", "beach.jpg"]),
        ("Anna", ["dog.jpg", "beach.jpg", "horse.jpg"]),
        ("photos of anna", ["dog.jpg", "beach.jpg", "horse.jpg"]),
        ("Anna and Maria", ["dog.jpg"]),
        ("Maria Rossi since 2020", ["castle.jpg"]),
        ("Weihnachten 2021", ["bridge.jpg"]),
        ("vor 2020", ["dog.jpg", "beach.jpg"]),
        ("Anna 2021", []),
        ("near Lisbon", ["beach.jpg"]),
        ("in Portugal", ["dog.jpg", "beach.jpg"]),
        ("Anna in Portogallo", ["dog.jpg", "beach.jpg"]),
        ("Lissabon 2019", ["beach.jpg"]),
        ("Valle d'Aosta", ["castle.jpg"]),
        ("Isola d'Elba", ["sail.jpg"]),
        ("auf Mallorca", ["palm.jpg"]),
        ("Majorque 2022", ["palm.jpg"]),
        ("Lago di Como", ["shore.jpg"]),
        ("Berlin, Germany", ["bridge.jpg"]),
        ("in der Nähe von Lissabon", ["beach.jpg"]),
    ],
)
def test_a_query_of_filters_alone_lists_the_newest_pictures(index, query, found):
    hits = index.search(query)
    assert names(hits) == found
    assert hits.understood is not None
    assert hits.understood.text == ""
    assert [hit.rank for hit in hits] == list(range(1, len(found) + 1))
    assert names(index.search(query, k=2)) == found[:2]


def test_a_description_is_ranked_among_the_pictures_that_pass(index):
    result = index.query(request("a castle by the sea in 2021"))
    assert sorted(names(result.hits)) == ["bridge.jpg", "castle.jpg"]
    assert result.query == "a castle by the sea in 2021"
    assert result.understood.text == "a castle by the sea"
    literal = index.query(
        SearchRequest(
            library.parse_query("a castle by the sea", filters={"after": "2021", "before": "2022"})
        )
    )
    assert [hit.score for hit in result.hits] == [hit.score for hit in literal.hits]


def request(text, **options):
    return SearchRequest(Query((Term(text),)), **options)


def test_literal_searches_read_nothing(index):
    assert index.search("2019", literal=True).understood is None
    assert len(index.search("2019", literal=True)) == len(FACTS)
    assert index.search("Anna 2019", literal_words=["2019"]).understood.people == ("Anna",)
    assert index.search('"2019"').understood is None
    line = index.query(SearchRequest(library.parse_query('"2019" Anna')))
    assert (line.understood.people, line.understood.after) == (("Anna",), None)


def test_filters_that_are_given_hold_beside_those_of_words(index):
    year = index.search("2019")
    assert year.understood.after == "2019-01-01"
    july = index.search("2019", filters={"after": "2019-07", "before": "2019-08"})
    assert july.understood == year.understood
    assert set(names(july)) == {hit.path.name for hit in year if hit.taken_at[:7] == "2019-07"}
    assert index.search("2019", filters={"after": "2024"}) == []
    both = index.search("Anna in July", filters={"people": ["maria"]})
    assert (both.understood.people, both.understood.months) == (("Anna",), (7,))
    assert set(names(both)) == set(names(index.search("Anna and Maria in July")))


def test_only_positive_terms_are_read(index):
    assert index.search("castle -2019", syntax=True).understood is None
    found = index.query(SearchRequest(library.parse_query("2021 -castle"))).understood
    assert (found.after, found.text) == ("2021-01-01", "2021")
    assert index.query(SearchRequest(library.parse_query("2:2021 + dog"))).understood is None


def test_people_whom_nobody_knows_stay_text(index):
    assert index.search("Sarah").understood is None
    assert index.search("anna karenina").understood is None


def test_landscapes_without_pictures_stay_text(index):
    # Como is near to Lake Maggiore, but not on it.
    assert index.search("boats Lago Maggiore").understood is None


def test_places_without_pictures_stay_text(index):
    assert index.search("near Madrid").understood is None


def test_an_index_without_dates_reads_none(mmsearch, photos, tmp_path):
    folder = tmp_path / "undated"
    folder.mkdir()
    for source in sorted((photos / "photos").iterdir())[:2]:
        with Image.open(source) as picture:
            picture.convert("RGB").save(folder / f"{source.stem}.png")
    mmsearch("index", folder, "--home", tmp_path / "home", "--model", "starter")
    with library.open_index(home=tmp_path / "home") as index:
        assert index.search("2019").understood is None


def test_pages_of_filters_alone_are_prefixes(index):
    whole = names(index.search("in July or Anna's 2019", k=100))
    for k in range(1, len(whole) + 1):
        assert names(index.search("in July or Anna's 2019", k=k)) == whole[:k]


def test_results_survive_json(index):
    result = index.query(request("Anna in July 2019"))
    again = library.SearchResult.from_dict(json.loads(json.dumps(result.to_dict(), default=str)))
    assert again.understood == result.understood
    assert again.understood.to_dict()["chips"][0] == {
        "kind": "person", "label": "Anna", "words": "Anna",
    }  # fmt: skip


def test_relative_dates_are_those_of_the_day(home, monkeypatch):
    monkeypatch.setattr(query_reader, "date", _Day)
    with library.open_index(home=home) as other:
        assert names(other.search("last summer")) == ["dog.jpg", "beach.jpg"]


class _Day(query_reader.date):
    @classmethod
    def today(cls):
        return cls(2020, 2, 1)


def test_the_command_says_what_it_read(mmsearch, home):
    done = mmsearch("query", "Anna in July 2019", "--home", home)
    assert "Read as: Anna, July 2019; --literal turns this off." in done.err
    assert len(done.out.splitlines()) == 2
    done = mmsearch("query", "Anna", "in", "July", "2019", "--home", home, "--json")
    understood = json.loads(done.out)["understood"]
    assert understood["people"] == ["Anna"]
    assert (understood["after"], understood["before"]) == ("2019-07-01", "2019-08-01")
    done = mmsearch("query", "Anna in July 2019", "--home", home, "--literal", "--json")
    assert json.loads(done.out)["understood"] is None


def test_the_command_says_that_no_picture_passes(mmsearch, home):
    done = mmsearch("query", "Anna 2021", "--home", home)
    assert "No picture passes the filters." in done.err


def test_empty_queries_are_still_errors(index):
    with pytest.raises(InvalidQueryError):
        index.search("")
    with pytest.raises(InvalidQueryError):
        index.search("", without="dog", filters={"after": "2019"})


def test_pictures_that_are_wrong_are_left_out_of_a_list(index):
    hits = index.search("2019")
    assert len(hits) > 1
    rest = names(hits)[1:]
    assert names(index.search("2019", unlike=hits[0])) == rest
    given = {"after": "2019", "before": "2020"}
    assert names(index.search("", filters=given, unlike=hits[0])) == rest
    assert index.facets("", filters=given, unlike=hits[0]).counted == len(rest)
    with pytest.raises(InvalidQueryError):
        index.search("", unlike=hits[0])


def test_given_filters_alone_list_the_newest_pictures(index, mmsearch, home):
    hits = index.search("", filters={"after": "2019", "before": "2020"})
    assert names(hits) == names(index.search("2019"))
    done = mmsearch("query", "--after", "2019", "--before", "2020", "--paths", "--home", home)
    assert [Path(line).name for line in done.out.splitlines()] == names(hits)


PATH = "/v1/indexes/default/search"


@pytest.fixture(scope="module")
def service(home):
    with http_client(home) as client:
        yield client


def test_http_says_what_it_read(service):
    answer = service.post(PATH, json={"query": "Anna in July 2019"}).json()
    assert answer["understood"]["people"] == ["Anna"]
    assert [chip["words"] for chip in answer["understood"]["chips"]] == ["Anna", "in July 2019"]
    assert len(answer["hits"]) == 2
    by_url = service.get(PATH, params={"q": "Anna in July 2019"}).json()
    assert by_url["understood"] == answer["understood"]
    for options in ({"literal": "true"}, {"literal_words": ["Anna", "in July 2019"]}):
        assert (
            service.get(PATH, params={"q": "Anna in July 2019", **options}).json()["understood"]
            is None
        )
    kept = service.post(PATH, json={"query": "Anna in July 2019", "literal_words": ["anna"]}).json()
    assert kept["understood"]["people"] == []
    assert kept["understood"]["text"] == "Anna"
    many = service.post(f"{PATH}/batch", json={"searches": [{"query": "2019"}, {"query": "dog"}]})
    first, second = many.json()["answers"]
    assert first["understood"]["after"] == "2019-01-01"
    assert second["understood"] is None


def test_pages_over_http_go_through_all_pictures(service):
    found, cursor = [], None
    while True:
        body = {"query": "in July", "limit": 1, "cursor": cursor}
        answer = service.post(PATH, json=body).json()
        found += [hit["key"] for hit in answer["hits"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert found == ["boat.jpg", "dog.jpg", "beach.jpg"]


def test_clients_have_what_was_read(home, socket_enabled):
    with open_server_state(home) as state, serve_in_thread(state, 0) as url:
        with library.Client(url) as client:
            hits = client.search("Anna in July 2019")
            assert hits.understood.people == ("Anna",)
            assert names(hits) == ["dog.jpg", "beach.jpg"]
            assert client.search("Anna", literal=True).understood is None
            assert client.search("Anna", literal_words=["anna"]).understood is None
            assert client.search(library.parse_query('"Anna" 2019')).understood.people == ()
            # A text with a sign is quoted for the server, and read all the same.
            assert client.search("castle - Anna").understood.people == ("Anna",)
            (many,) = client.search_many(["2019"])
            assert many.understood.after == "2019-01-01"

        async def main():
            async with library.AsyncClient(url) as client:
                assert (await client.search("Anna")).understood.people == ("Anna",)
                assert (await client.search("Anna", literal=True)).understood is None

        asyncio.run(main())


def test_retrievers_read_if_they_are_not_literal(index):
    langchain = pytest.importorskip("mmsearch.integrations.langchain")
    assert len(langchain.MMSearchRetriever(source=index).invoke("2021")) == len(FACTS)
    assert len(langchain.MMSearchRetriever(source=index, literal=False).invoke("2021")) == 2


def test_counts_read_the_same_words(index, service, mmsearch, home):
    years = {"2024": 1, "2019": 2}
    found = index.facets("in July", fields=["year"])
    assert {value.value: value.count for value in found.facets[0].values} == years
    assert (found.query, found.of) == ("in July", 3)
    assert index.facets("in July", fields=["year"], literal=True).of == len(FACTS)
    path = "/v1/indexes/default/facets"
    body = {"query": "in July", "fields": ["year"]}
    assert service.post(path, json=body).json()["of"] == 3
    assert service.post(path, json=body | {"literal": True}).json()["of"] == len(FACTS)
    url = {"q": "in July", "fields": "year", "literal_words": "in July"}
    assert service.get(path, params=url).json()["of"] == len(FACTS)
    done = mmsearch("facets", "in", "July", "--by", "year", "--home", home, "--json")
    assert json.loads(done.out)["of"] == 3
