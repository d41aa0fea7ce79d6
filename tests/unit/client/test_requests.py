"""Tests of the requests that the client sends and of its parsing of the responses."""

import json
import re
from dataclasses import fields
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from mmsearch import Client, Query, Term, parse_filters, parse_query
from mmsearch.client._flows import parse_answer, parse_vectors
from mmsearch.client._requests import (
    build_filters_body,
    build_picture_form,
    build_search_body,
)
from mmsearch.core.errors import InvalidQueryError, ServerError, SourceError, StateError, UsageError
from mmsearch.core.filters import Filters
from mmsearch.core.query import Band, MatchedText
from mmsearch.core.results import Hit, Item
from mmsearch.core.server_results import JobStatus
from mmsearch.core.types import Text
from tests.unit.client.fake_server import (
    HIT,
    JOB,
    TOKEN,
    URL,
    FakeServer,
    hit_documents,
    json_response,
    page_document,
)


def test_hit_from_dict_keeps_all_sent_fields_and_ignores_unknown_field():
    hit = Hit.from_dict(HIT | {"of_a_later_version": 1})
    assert hit == Hit(
        id=7,
        path=Path("/photos/a\\xff.jpg"),
        copies=(Path("/photos/b.jpg"),),
        width=640,
        height=480,
        format="JPEG",
        taken_at="2019-05-01T12:00:00",
        camera="NIKON D90",
        latitude=48.5,
        longitude=-2.25,
        modified_at=1556704800.5,
        size_bytes=12345,
        texts=(Text("title", "a mill", "en", "sidecar"),),
        links=HIT["links"],
        rank=1,
        score=0.25,
        visual=0.125,
        text=0.5,
        matched=MatchedText("title", "en", "a mill", ((2, 6),)),
        confidence=0.75,
        band=Band.LIKELY,
    )


@pytest.mark.parametrize(
    "answer", [None, [], {}, HIT | {"band": "sure"}, HIT | {"texts": 3}, HIT | {"matched": "x"}]
)
def test_parse_answer_malformed_hit_raises_server_error(answer):
    with pytest.raises(ServerError, match="the form that an mmsearch server sends"):
        parse_answer(Hit.from_dict, answer)


def test_job_from_dict_reads_fields_and_failed_job_is_not_running():
    assert JobStatus.from_dict(JOB) == JobStatus(
        "ab12", "default", "photos", "running", "encode", 3, 9, None, None
    )
    assert JobStatus.from_dict(JOB).running
    assert not JobStatus.from_dict(JOB | {"state": "failed"}).running


def test_parse_vectors_returns_exact_float32_values():
    vectors = np.array([[0.1, 0.2, 0.3], [1e-8, -1, 0.7]], dtype=np.float32)
    parsed = parse_vectors({"dim": 3, "embeddings": vectors.tolist()})
    assert parsed.dtype == np.float32
    np.testing.assert_array_equal(parsed, vectors)


def test_build_filters_body_uses_parameter_names_of_server():
    assert build_filters_body(None) == {}
    assert build_filters_body({"path": ["a/**"], "where": "width > 3"}) == {
        "path": ["a/**"],
        "where": "width > 3",
    }
    filters = parse_filters(
        paths=["a/**"], after="2019", formats=["jpg"], cameras=["d90"], near="48.5,-2.25,10"
    )
    assert build_filters_body(filters) == {
        "path": ["a/**"],
        "after": "2019-01-01T00:00:00",
        "format": ["JPEG"],
        "camera": ["d90"],
        "near": "48.5,-2.25,10.0",
    }
    assert build_filters_body(Filters()) == {}


def test_build_filters_body_sends_parsed_condition_as_text():
    assert build_filters_body(parse_filters(where="width > 3")) == {"where": "width > 3"}


def test_build_search_body_like_accepts_ids_and_hits():
    assert build_search_body("mill", like=[3, Hit.from_dict(HIT)], without=["people"])["like"] == [
        3,
        7,
    ]


def test_clicks_are_sent_as_ids_and_disliked_ones_only_if_there_are_some():
    assert "unlike" not in build_search_body("mill")
    assert build_search_body("mill", unlike=[4, Hit.from_dict(HIT)])["unlike"] == [4, 7]
    body = build_search_body(parse_query("mill", like=1, unlike=2), like=3, unlike=4)
    assert (body["like"], body["unlike"]) == ([1, 3], [2, 4])
    form = build_picture_form("mill", like=3, unlike=[4])
    assert (form["like"], form["unlike"]) == (["3"], ["4"])
    assert not {"like", "unlike"} & build_picture_form("mill").keys()


def test_fold_is_sent_only_if_it_is_off():
    assert "fold" not in build_search_body("mill")
    assert build_search_body("mill", fold=False)["fold"] is False
    assert "fold" not in build_picture_form("mill")
    assert build_picture_form("mill", fold=False)["fold"] == "False"


def test_client_search_sends_all_options_with_token_and_index():
    server = FakeServer(json_response(page_document(hit_documents(1, 2))))
    with Client(URL, token=TOKEN, index="a b", transport=server.transport) as client:
        found = client.search("mill", 2, without=["people"], like=[3], mode="vector", min_score=0.1)
    assert [(hit.rank, hit.id) for hit in found] == [(1, 1), (2, 2)]
    (asked,) = server.requests
    assert (asked.method, str(asked.url)) == ("POST", f"{URL}/v1/indexes/a%20b/search")
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert server.bodies == [
        {
            "query": "mill",
            "not": ["people"],
            "like": [3],
            "like_url": [],
            "filters": {},
            "mode": "vector",
            "min_score": 0.1,
            "min_confidence": None,
            "limit": 2,
            "cursor": None,
        }
    ]


def test_client_server_url_with_path_keeps_path_prefix():
    server = FakeServer(json_response(page_document([])))
    client = Client("https://example.org/mm/", transport=server.transport)
    assert client.search("mill") == []
    assert str(server.requests[0].url) == "https://example.org/mm/v1/indexes/default/search"
    assert "authorization" not in server.requests[0].headers


def test_client_search_many_hits_requests_several_pages():
    server = FakeServer(
        json_response(page_document(hit_documents(1, 200), "one")),
        json_response(page_document(hit_documents(201, 200), "two")),
        json_response(page_document(hit_documents(401, 50), "three")),
    )
    found = Client(URL, transport=server.transport).search("mill", 450)
    assert [hit.rank for hit in found] == list(range(1, 451))
    assert [(body["limit"], body["cursor"]) for body in server.bodies] == [
        (200, None),
        (200, "one"),
        (50, "two"),
    ]


def test_client_search_generation_change_restarts_or_raises_state_error():
    server = FakeServer(
        json_response(page_document(hit_documents(1, 200), "one", generation=1)),
        json_response(page_document(hit_documents(200, 100), None, generation=2)),
        json_response(page_document(hit_documents(1, 200), "one", generation=2)),
        json_response(page_document(hit_documents(201, 99), None, generation=2)),
    )
    found = Client(URL, transport=server.transport).search("mill", 1000)
    assert [hit.rank for hit in found] == list(range(1, 300))
    changing = [
        json_response(page_document(hit_documents(1, 200), "one", generation=n)) for n in range(6)
    ]
    with pytest.raises(StateError, match="changes too fast"):
        Client(URL, transport=FakeServer(*changing).transport).search("mill", 1000)


@pytest.mark.parametrize("k", [0, -1, 1001])
def test_client_search_hit_count_out_of_range_raises_invalid_query_error(k):
    with pytest.raises(InvalidQueryError, match=f"A server cannot return {k} hits"):
        Client(URL, transport=FakeServer().transport).search("mill", k)


def test_client_similar_sends_id_or_uploads_picture(tmp_path):
    file = tmp_path / "mill.jpg"
    file.write_bytes(b"JPEG")
    server = FakeServer(*(json_response(page_document(hit_documents(1, 1))) for _ in range(4)))
    client = Client(URL, transport=server.transport)
    client.similar(7, 3)
    client.similar(Hit.from_dict(HIT), 3)
    client.similar(file, 3)
    client.similar(b"PNG", 3)
    by_id, by_hit, by_path, by_content = server.requests
    assert by_id.content == by_hit.content
    assert b'"like": [7]' in by_id.content
    assert by_path.url.path == by_content.url.path == "/v1/indexes/default/search/picture"
    assert b'name="picture"' in by_path.content
    assert b"JPEG" in by_path.content
    assert b'name="limit"\r\n\r\n3\r\n' in by_path.content
    assert b"PNG" in by_content.content


def test_client_picture_url_is_sent_not_downloaded():
    vector = {"dim": 1, "embeddings": [[1.0]]}
    server = FakeServer(json_response(page_document(hit_documents(1, 1))), json_response(vector))
    client = Client(URL, transport=server.transport)
    client.similar("HTTPS://a.example/b,c.jpg", 3, min_score=0.1)
    client.embed_picture("http://a.example/b.jpg?c=d&e")
    similar, embedded = server.requests
    asked = json.loads(similar.content)
    assert (asked["like_url"], asked["min_score"]) == (["HTTPS://a.example/b,c.jpg"], 0.1)
    assert embedded.url.path == "/v1/indexes/default/embeddings/picture"
    assert embedded.content == b"url=http%3A%2F%2Fa.example%2Fb.jpg%3Fc%3Dd%26e"


SEARCH_OPTIONS = {
    "query": "at night",
    "without": ["people", "cars"],
    "filters": {"orientation": "portrait"},
    "mode": "vector",
    "min_score": 0.1,
    "min_confidence": 0.25,
}


def test_client_similar_sends_search_options_with_each_picture_form():
    server = FakeServer(*(json_response(page_document(hit_documents(1, 1))) for _ in range(3)))
    client = Client(URL, transport=server.transport)
    client.similar(7, 3, **SEARCH_OPTIONS)
    client.similar("http://a.example/b.jpg", 3, **SEARCH_OPTIONS)
    client.similar(b"PNG", 3, **SEARCH_OPTIONS)
    by_id, by_url, sent = server.requests
    named = {"like": [7], "like_url": []}, {"like": [], "like_url": ["http://a.example/b.jpg"]}
    for asked, pictures in zip((by_id, by_url), named, strict=True):
        body = json.loads(asked.content)
        assert {name: body[name] for name in pictures} == pictures
        assert (body["query"], body["not"]) == ("at night", ["people", "cars"])
        rest = ("filters", "mode", "min_score", "min_confidence")
        assert {name: body[name] for name in rest} == {name: SEARCH_OPTIONS[name] for name in rest}
    parts = re.findall(rb'name="(\w+)"\r\n\r\n(.*?)\r\n--', sent.content)
    assert sorted(parts) == sorted(
        [
            (b"query", b"at night"),
            (b"not", b"people"),
            (b"not", b"cars"),
            (b"filters", b'{"orientation": "portrait"}'),
            (b"mode", b"vector"),
            (b"min_score", b"0.1"),
            (b"min_confidence", b"0.25"),
            (b"limit", b"3"),
        ]
    )
    with pytest.raises(UsageError, match="tags must be a string or a list of them"):
        client.similar(b"PNG", filters={"tag": {1, 2}})


def test_client_similar_missing_file_raises_source_error(tmp_path):
    client = Client(URL, transport=FakeServer().transport)
    with pytest.raises(SourceError, match=r"none\.jpg cannot be read: No such file or directory\."):
        client.similar(tmp_path / "none.jpg")


def test_client_embed_texts_many_texts_returns_vectors_in_order():
    def encoded(request):
        texts = json.loads(request.content)["texts"]
        return json_response({"dim": 2, "embeddings": [[float(text), 0.5] for text in texts]})

    client = Client(URL, transport=httpx.MockTransport(encoded))
    vectors = client.embed_texts([str(number) for number in range(230)])
    assert vectors.shape == (230, 2)
    assert vectors[:, 0].tolist() == list(range(230))
    with pytest.raises(InvalidQueryError, match="no text to encode"):
        client.embed_texts([])


def test_client_search_invalid_value_raises_usage_error():
    client = Client(URL, transport=FakeServer().transport)
    with pytest.raises(UsageError, match="tags must be a string or a list of them"):
        client.search("mill", filters={"tag": {1, 2}})
    with pytest.raises(UsageError, match="min_score must be a number, got nan"):
        client.search("mill", min_score=float("nan"))
    with pytest.raises(InvalidQueryError, match="Unknown mode 'fast'"):
        client.search("mill", mode="fast")


@pytest.mark.parametrize(
    "text",
    ["street -people", "/etc/passwd", "~/x", "image:http://a/b", '"quoted"', "2:dog", "a + b", "\\",
     'a "b \\" c', "a  b", "-", "dog\nsnow"],
)  # fmt: skip
def test_text_of_client_is_literal(text):
    line = build_search_body(text)["query"]
    (term,) = parse_query(line).terms
    assert (term.text.strip(), term.weight) == (text, 1.0)
    assert build_search_body(text, syntax=True)["query"] == text


def test_plain_text_of_client_is_sent_as_it_is():
    assert build_search_body(" a red car, 16:9 ")["query"] == "a red car, 16:9"
    assert build_search_body("")["query"] == ""


def test_client_sends_a_parsed_query():
    query = parse_query(
        '2.5:dog + " /etc" - http -"a b"',
        like=[7],
        urls=["http://a.example/b.jpg"],
        filters={"camera": "nikon"},
        mode="vector",
        blend="weighted_sum",
        prompts="a photo of {}",
    )
    body = build_search_body(query, min_score=0.5)
    sent = parse_query(body["query"], like=body["like"])
    texts = [(term.text.strip(), term.weight) for term in query.terms if term.text]
    assert [(term.text.strip(), term.weight) for term in sent.terms if term.text] == texts
    assert [term.url for term in sent.terms if term.url] == ["http://a.example/b.jpg"]
    assert (body["like"], body["mode"], body["min_score"]) == ([7], "vector", 0.5)
    assert body["filters"] == {"camera": ["nikon"]}
    assert (body["blend"], body["prompts"]) == ("weighted_sum", ["a photo of {}"])


def test_client_refuses_a_parsed_query_that_a_server_cannot_answer():
    with pytest.raises(UsageError, match=r"cannot name the file .*a\.jpg"):
        build_search_body(parse_query(images="/a.jpg"))
    with pytest.raises(UsageError, match="cannot weigh pictures of the index"):
        build_search_body(Query((Term("a"), Term(picture=3, weight=2.0))))
    with pytest.raises(UsageError, match="A Query is combined with mode"):
        build_search_body(parse_query("a"), mode="text")


@pytest.mark.parametrize("value", [None, float("nan"), [], {}, ..., True], ids=repr)
def test_client_refuses_what_is_no_picture(value):
    client = Client(URL, transport=FakeServer().transport)
    with pytest.raises(UsageError, match="image must be a path"):
        client.similar(value)
    with pytest.raises(UsageError, match="image must be a path"):
        client.embed_picture(value)


def test_client_uploads_pictures_in_memory():
    server = FakeServer(*(json_response(page_document(hit_documents(1, 1))) for _ in range(2)))
    client = Client(URL, transport=server.transport)
    pixels = np.zeros((2, 3, 3), np.uint8)
    client.similar(pixels)
    client.similar(Image.fromarray(pixels))
    assert [b"\x89PNG" in request.content for request in server.requests] == [True, True]
    with pytest.raises(UsageError, match="An array of float64 and shape"):
        client.similar(np.zeros((2, 3)))


def test_client_picture_requests_accept_id_or_picture():
    known = {
        name: value
        for name, value in HIT.items()
        if name in {member.name for member in fields(Item)}
    }
    server = FakeServer(
        json_response(known),
        json_response({}, 200),
        json_response({}, 200),
    )
    client = Client(URL, transport=server.transport)
    picture = client.picture(7)
    assert (picture.id, picture.camera) == (7, "NIKON D90")
    assert client.thumbnail(picture, "large") == b"{}"
    assert client.original(7) == b"{}"
    assert [request.url.raw_path.decode() for request in server.requests] == [
        "/v1/indexes/default/pictures/7",
        "/v1/indexes/default/pictures/7/thumbnail?size=large",
        "/v1/indexes/default/pictures/7/original",
    ]
