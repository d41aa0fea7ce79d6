"""Copies of photographs are one hit in Python, HTTP, the client, assistants and frameworks."""

import asyncio
import csv
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import mmsearch
from mmsearch.api.evaluate import CaptionedSet, evaluate_index
from mmsearch.client import AsyncClient, Client
from mmsearch.core.query import SearchRequest
from mmsearch.integrations import langchain, llama_index
from mmsearch.mcp.schemas import SearchArguments, SimilarArguments
from mmsearch.mcp.tools import Tools
from mmsearch.server.app import serve_in_thread
from mmsearch.storage.layout import IndexLayout
from tests.http_client import http_client, open_server_state
from tests.stacked_index import write_stacks

SEARCH = "/v1/indexes/default/search"
OTHERS = 20


@pytest.fixture(scope="module")
def home(photos, tmp_path_factory):
    """Photographs of windmills and others, and three copies of one of the windmills."""
    folder, home = (tmp_path_factory.mktemp(name) for name in ("copies", "home"))
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    windmills = [row for row in rows if row["word"] == "windmill"]
    others = [row for row in rows if row["word"] != "windmill"][:OTHERS]
    for row in windmills + others:
        shutil.copy(photos / row["path"], folder)
    with Image.open(photos / windmills[0]["path"]) as image:
        width, height = image.size
        image.convert("RGB").save(folder / "original.png")
        image.convert("RGB").save(folder / "poor.jpg", quality=40)
        image.resize((width // 2, height // 2)).convert("RGB").save(folder / "small.jpg")
        image.crop((9, 9, width - 9, height - 9)).convert("RGB").save(folder / "cropped.jpg")
    (folder / windmills[0]["path"].rpartition("/")[2]).unlink()
    with mmsearch.open_index(home=home) as index:
        index.add_folder(folder)
        ids = {item.path.name: item.id for item in index.list_items(limit=200)}
    near = [ids[name] for name in ("original.png", "poor.jpg", "small.jpg")]
    write_stacks(IndexLayout(home / "default"), [[near, [ids["cropped.jpg"]]]])
    return home


@pytest.fixture
def index(home):
    with mmsearch.open_index(home=home) as index:
        yield index


@pytest.fixture
def client(home, socket_enabled):
    with (
        open_server_state(home) as state,
        serve_in_thread(state, port=0) as url,
        Client(url) as client,
    ):
        yield client


@pytest.fixture
def members(index):
    """Ids of the stack, best first for windmills."""
    names = {"original.png", "poor.jpg", "small.jpg", "cropped.jpg"}
    hits = [hit for hit in index.search("a windmill", 40, fold=False) if hit.path.name in names]
    assert len(hits) == len(names)
    return [hit.id for hit in hits]


def summaries(hits):
    return [(hit.id, hit.score, hit.folded, [each.id for each in hit.duplicates]) for hit in hits]


def test_copies_are_one_hit_of_search_with_their_paths_and_kinds(index, members):
    every = index.search("a windmill", 40, fold=False)
    hits = index.search("a windmill", 40)
    assert [hit.id for hit in hits] == [h.id for h in every if h.id not in members[1:]]
    (hit,) = [hit for hit in hits if hit.folded]
    assert (hit.id, hit.folded) == (members[0], 3)
    assert {each.id for each in hit.duplicates} == set(members[1:])
    kinds = {each.path.name: each.kind for each in hit.duplicates}
    if hit.path.name != "cropped.jpg":
        assert kinds["cropped.jpg"] == "burst"
        assert set(kinds.values()) == {"near", "burst"}
    assert all(each.path.is_file() for each in hit.duplicates)
    (many,) = index.search_many(["a windmill"], 40)
    assert summaries(many.hits) == summaries(hits)
    (unfolded,) = index.search_many(["a windmill"], 40, fold=False)
    assert summaries(unfolded.hits) == summaries(every)


def test_search_by_picture_of_stack_shows_it_once(index, members):
    for picture in (members[0], Path(os.fsdecode(index.picture(members[0]).paths[0]))):
        first, second = index.similar(picture, 2)
        assert (first.id, first.folded) == (members[0], 3)
        assert second.id not in members
        found = index.similar(picture, 4, fold=False)
        assert {hit.id for hit in found} == set(members)


def test_http_folds_by_default_and_pages_continue_each_other(home, members):
    with http_client(home) as http:
        whole = http.post(SEARCH, json={"query": "a windmill", "limit": 40}).json()
        pages, cursor = [], None
        while not pages or cursor is not None:
            body = {"query": "a windmill", "limit": 4, "cursor": cursor}
            page = http.post(SEARCH, json=body).json()
            pages += page["hits"]
            cursor = page["next_cursor"]
        assert pages == whole["hits"]
        (folded,) = [hit for hit in whole["hits"] if hit["folded"]]
        assert (folded["id"], folded["folded"]) == (members[0], 3)
        assert {each["id"] for each in folded["duplicates"]} == set(members[1:])
        assert folded["duplicates"][0].keys() == {"id", "path", "kind", "taken_at", "uri"}
        assert whole["passed"] == whole["pictures"] == len(whole["hits"]) + 3
        by_url = http.get(SEARCH, params={"q": "a windmill", "limit": 40}).json()
        assert by_url["hits"] == whole["hits"]
        body = {"query": "a windmill", "limit": 40, "fold": False}
        every = http.post(SEARCH, json=body).json()["hits"]
        assert len(every) == whole["pictures"]
        assert not any(hit["folded"] or hit["duplicates"] for hit in every)
        params = {"q": "a windmill", "limit": 40, "fold": "false"}
        assert http.get(SEARCH, params=params).json()["hits"] == every
        batch = http.post(f"{SEARCH}/batch", json={"searches": [body]}).json()
        assert batch["answers"][0]["hits"] == every
        wrong = http.get(SEARCH, params=params | {"fold": "perhaps"})
        assert (wrong.status_code, "fold" in wrong.json()["detail"]) == (422, True)


def test_uploaded_picture_folds_unless_form_says_no(home, members):
    with http_client(home) as http:
        picture = http.get(f"/v1/indexes/default/pictures/{members[0]}/original").content
        for form, expected in (({}, 1), ({"fold": "false"}, 4)):
            files = {"picture": ("a", picture)}
            data = form | {"limit": "4"}
            hits = http.post(f"{SEARCH}/picture", files=files, data=data).json()["hits"]
            assert len({hit["id"] for hit in hits} & set(members)) == expected


def test_client_folds_as_the_index(client, index, members):
    hits = client.search("a windmill", 40)
    assert summaries(hits) == summaries(index.search("a windmill", 40))
    every = summaries(index.search("a windmill", 40, fold=False))
    assert summaries(client.search("a windmill", 40, fold=False)) == every
    (many,) = client.search_many(["a windmill"], 40, fold=False)
    assert summaries(many) == every
    assert {hit.id for hit in client.similar(members[0], 4, fold=False)} == set(members)
    path = next(hit.path for hit in hits if hit.id == members[0])
    assert client.similar(path, 4)[0].folded == 3
    assert {hit.id for hit in client.similar(path, 4, fold=False)} == set(members)

    async def search():
        async with AsyncClient(client.url) as other:
            return [await other.search("a windmill", 40, fold=fold) for fold in (True, False)]

    assert [summaries(hits) for hits in asyncio.run(search())] == [summaries(hits), every]


class IndexWorker:
    """Worker that answers in the same thread."""

    name = "default"

    def __init__(self, index):
        self._index = index

    async def search(self, request: SearchRequest):
        return self._index.query(request)

    async def run(self, work):
        return work(self._index)


def test_assistant_reads_number_and_ids_of_folded_pictures(index, members):
    thumbnails = SimpleNamespace(get=lambda record, size: (b"", ""))
    tools = Tools(IndexWorker(index), thumbnails)
    answer = asyncio.run(tools.search(SearchArguments(query="a windmill", limit=30)))
    (text,) = [block for block in answer.blocks if "similar: ids" in str(block)]
    (hit,) = [hit for hit in answer.structured.hits if hit.folded]
    assert f"+3 similar: ids {', '.join(str(each.id) for each in hit.duplicates)}" in text
    assert (hit.id, {each.id for each in hit.duplicates}) == (members[0], set(members[1:]))
    unfolded = asyncio.run(tools.search(SearchArguments(query="a windmill", limit=30, fold=False)))
    assert len({hit.id for hit in unfolded.structured.hits} & set(members)) == 4
    similar = asyncio.run(tools.similar(SimilarArguments(image_id=members[0], limit=3)))
    assert f"Picture {members[0]} itself: +3 similar: ids " in similar.blocks[0]
    assert similar.structured.folded == 3
    assert not {hit.id for hit in similar.structured.hits} & set(members)
    each = SimilarArguments(image_id=members[0], limit=3, fold=False)
    found = asyncio.run(tools.similar(each)).structured
    assert {hit.id for hit in found.hits} == set(members[1:])
    assert (found.folded, found.duplicates) == (0, [])


def test_retrievers_of_frameworks_fold_and_say_so(index, members):
    documents = langchain.MMSearchRetriever(source=index, k=40).invoke("a windmill")
    (folded,) = [d.metadata for d in documents if d.metadata["folded"]]
    paths = {str(index.picture(member).paths[0], "utf-8") for member in members[1:]}
    assert (folded["folded"], set(folded["duplicates"])) == (3, paths)
    assert len(
        langchain.MMSearchRetriever(source=index, k=40, fold=False).invoke("a windmill")
    ) == (len(documents) + 3)
    nodes = llama_index.MMSearchRetriever(index, k=40).retrieve("a windmill")
    (node,) = [n.node for n in nodes if n.node.metadata["folded"]]
    assert set(node.metadata["duplicates"].split("\n")) == paths
    assert all(not isinstance(value, list | dict) for value in node.metadata.values())
    every = llama_index.MMSearchRetriever(index, k=40, fold=False).retrieve("a windmill")
    assert len(every) == len(nodes) + 3


def test_notebook_shows_number_of_folded_pictures(index):
    assert " +3<br>" in index.search("a windmill", 40)._repr_html_()


def test_evaluation_judges_each_picture(index, members, tmp_path):
    table = tmp_path / "queries.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["query", "path"])
        for member in members:
            writer.writerow(["a windmill", str(index.picture(member).paths[0], "utf-8")])
    evaluation = evaluate_index(index, CaptionedSet(table), depth=40)
    first = [hit.id for hit in index.search("a windmill", 10, fold=False)]
    share = len(set(first) & set(members)) / len(members)
    assert evaluation.metrics["Recall@10"].value == share > 1 / len(members)
