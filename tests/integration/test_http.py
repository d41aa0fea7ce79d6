"""The HTTP API over real photographs gives the same answers as the index itself."""

import io
import json
import shutil
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import mmsearch as library
from mmsearch.core.reports import Severity
from mmsearch.core.types import InputKind
from mmsearch.encoders._torch import TorchTower
from mmsearch.encoders._two_tower import TwoTowerEncoder
from mmsearch.server.config import ServerConfig
from tests.http_client import http_client

AT = "/v1/indexes/default"


@pytest.fixture(scope="module")
def server(photo_index, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with http_client(photo_index) as client:
            yield client


@pytest.fixture(scope="module")
def index(photo_index, server):
    with library.open_index(home=photo_index) as index:
        yield index


def search(server, **body):
    answer = server.post(f"{AT}/search", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_http_search_returns_same_hits_as_index(server, index):
    answer = search(server, query="a windmill", limit=20)
    hits = index.search("a windmill", k=20)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in hits]
    assert [hit["path"] for hit in answer["hits"]] == [str(hit.path) for hit in hits]
    assert [hit["rank"] for hit in answer["hits"]] == list(range(1, 21))
    for json_hit, hit in zip(answer["hits"], hits, strict=True):
        assert json_hit["score"] == pytest.approx(hit.score, abs=1e-6)
        assert json_hit["confidence"] == pytest.approx(hit.confidence, abs=1e-6)
        assert (json_hit["width"], json_hit["height"], json_hit["band"]) == (
            hit.width,
            hit.height,
            hit.band,
        )
    assert (answer["pictures"], answer["passed"], answer["encoder"]) == (212, 212, "starter")


@pytest.mark.parametrize("sort", ["date", "-date", "name", "-name", "size", "-size"])
def test_http_search_sort_orders_each_page_of_the_best_hits(server, index, sort):
    first = search(server, query="a windmill", limit=6, sort=sort)
    hits = index.search("a windmill", k=6, sort=sort)
    assert [hit["id"] for hit in first["hits"]] == [hit.id for hit in hits]
    assert sorted(hit["rank"] for hit in first["hits"]) == [1, 2, 3, 4, 5, 6]
    by_url = server.get(f"{AT}/search", params={"q": "a windmill", "limit": 6, "sort": sort}).json()
    assert by_url["hits"] == first["hits"]
    then = search(server, query="a windmill", limit=6, sort=sort, cursor=first["next_cursor"])
    assert sorted(hit["rank"] for hit in then["hits"]) == [7, 8, 9, 10, 11, 12]
    if sort.endswith("size"):
        sizes = [hit["size_bytes"] for hit in first["hits"]]
        assert sizes == sorted(sizes, reverse=sort == "-size")


def test_http_search_unknown_sort_returns_422(server):
    answer = server.post(f"{AT}/search", json={"query": "a windmill", "sort": "colour"})
    assert answer.status_code == 422
    assert "sort must be 'score', 'date', '-date'" in answer.json()["detail"]


def test_http_search_by_get_returns_same_hits_as_post(server):
    by_url = server.get(
        f"{AT}/search", params={"q": "a dog", "limit": 3, "orientation": "landscape", "not": "cat"}
    ).json()
    by_body = search(
        server, query="a dog", limit=3, filters={"orientation": "landscape"}, **{"not": ["cat"]}
    )
    assert by_url["hits"] == by_body["hits"]
    assert all(hit["width"] > hit["height"] for hit in by_url["hits"])


def test_http_search_pages_joined_equal_whole_result(server, index):
    whole = [hit.id for hit in index.search("an animal", k=212)]
    pages, cursor = [], None
    while True:
        answer = search(server, query="an animal", limit=50, cursor=cursor)
        pages += answer["hits"]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    assert [hit["id"] for hit in pages] == whole
    assert [hit["rank"] for hit in pages] == list(range(1, len(whole) + 1))
    assert sum(1 + hit["folded"] for hit in pages) == index.status().pictures


@pytest.mark.parametrize(
    "cursor", ["nonsense", "e30=", "eyJhZnRlciI6IC0xfQ==", "eyJhZnRlciI6IDFlOX0=", "é"]
)
def test_http_search_invalid_cursor_returns_400(server, cursor):
    answer = server.post(f"{AT}/search", json={"query": "a dog", "cursor": cursor})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Invalid cursor.")


@pytest.mark.parametrize(
    "other",
    [
        {"query": "a cat"},
        {"query": "a dog", "not": ["snow"]},
        {"query": "a dog", "filters": {"orientation": "portrait"}},
        {"query": "a dog", "fold": False},
        {"query": "a dog", "mode": "text"},
        {"like": [1]},
    ],
)
def test_http_search_cursor_of_another_query_returns_400(server, other):
    cursor = search(server, query="a dog", limit=5)["next_cursor"]
    again = search(server, query="a dog", limit=7, cursor=cursor, sort="date", explain=False)
    assert sorted(hit["rank"] for hit in again["hits"]) == list(range(6, 13))
    answer = server.post(f"{AT}/search", json={**other, "cursor": cursor})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The cursor is of another query. Repeat the query")
    by_url = server.get(f"{AT}/search", params={"q": "a dog", "limit": 5, "cursor": cursor})
    assert by_url.json()["hits"][0]["rank"] == 6
    assert server.get(f"{AT}/items", params={"cursor": cursor}).status_code == 400


def test_http_search_like_picture_id_matches_index_similar(server, index):
    first = index.search("a windmill", k=1)[0]
    answer = search(server, like=[first.id], limit=5)
    assert [hit["id"] for hit in answer["hits"]] == [
        hit.id for hit in index.similar(first.path, k=5)
    ]
    assert answer["hits"][0]["id"] == first.id


def test_http_search_with_right_and_wrong_hits_equals_local_search(server, index):
    first = index.search("a windmill", 9)
    liked, disliked = [first[0].id, first[3].id], [first[1].id, first[8].id]
    expected = [hit.id for hit in index.search("a windmill", 30, like=liked, unlike=disliked)]
    pages, cursor = [], None
    for _ in range(2):
        answer = search(
            server, query="a windmill", like=liked, unlike=disliked, limit=15, cursor=cursor
        )
        pages += [hit["id"] for hit in answer["hits"]]
        cursor = answer["next_cursor"]
    assert pages == expected
    assert answer["passed"] == answer["pictures"] - 2
    url = f"{AT}/search?q=a windmill&limit=30"
    url += "".join(f"&like={picture}" for picture in liked)
    url += "".join(f"&unlike={picture}" for picture in disliked)
    assert [hit["id"] for hit in server.get(url).json()["hits"]] == expected
    body = {"searches": [{"query": "a windmill", "like": liked, "unlike": disliked, "limit": 30}]}
    batch = server.post(f"{AT}/search/batch", json=body).json()["answers"][0]
    assert [hit["id"] for hit in batch["hits"]] == expected


def test_http_upload_with_right_and_wrong_hits(server, index):
    first = index.search("a windmill", 1)
    alone = search(server, like=[first[0].id], limit=200)["hits"]
    liked = alone[30]["id"]
    form = {"unlike": [str(alone[1]["id"])], "like": [str(liked)], "limit": "200"}
    with first[0].path.open("rb") as file:
        answer = server.post(f"{AT}/search/picture", files={"picture": file}, data=form)
    assert answer.status_code == 200, answer.text
    ids = [hit["id"] for hit in answer.json()["hits"]]
    assert alone[1]["id"] not in ids
    rank = [hit["id"] for hit in alone].index(liked)
    assert ids.index(liked) <= rank


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"unlike": [1]}, 400, "Also describe them, or give one that is right: like=[ID]"),
        ({"query": "a dog", "like": [1], "unlike": [1]}, 400, "Picture 1 is both liked and"),
        ({"query": "a dog", "unlike": [99999]}, 404, "no picture 99999. Use the id of a hit."),
        ({"query": "a dog", "unlike": ["x"]}, 422, "unlike"),
        ({"query": "a dog", "like": [True]}, 422, "like.0 must be a whole number, got True"),
        ({"query": "a dog", "unlike": [False]}, 422, "unlike.0 must be a whole number"),
        ({"query": "a dog", "like": list(range(101))}, 422, "like"),
    ],
)
def test_http_search_with_unusable_clicks(server, body, status, detail):
    answer = server.post(f"{AT}/search", json=body)
    assert answer.status_code == status
    assert detail in answer.json()["detail"]


def test_http_search_by_uploaded_picture_ranks_same_picture_first(server, index):
    first = index.search("a windmill", k=1)[0]
    with first.path.open("rb") as file:
        answer = server.post(f"{AT}/search/picture", files={"picture": file}, data={"limit": "3"})
    json_hit = answer.json()
    assert (json_hit["hits"][0]["id"], json_hit["query"]) == (first.id, "(picture)")
    assert json_hit["hits"][0]["score"] > 0.999
    assert len(json_hit["hits"]) == 3


def test_http_search_uploaded_picture_with_words_changes_ranking(server, index):
    first = index.search("a windmill", k=1)[0]
    with first.path.open("rb") as file:
        answer = server.post(
            f"{AT}/search/picture", files={"picture": file}, data={"query": "a dog"}
        )
    json_hit = answer.json()
    assert json_hit["query"].endswith("a dog")
    alone = search(server, like=[first.id], limit=20)
    assert [hit["id"] for hit in json_hit["hits"]] != [hit["id"] for hit in alone["hits"]]


@pytest.mark.parametrize("content", [b"", b"no picture", b"\xff\xd8\xff\xe0 half a JPEG"])
def test_http_search_upload_that_is_not_an_image_returns_422(server, content):
    answer = server.post(f"{AT}/search/picture", files={"picture": content})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("The uploaded picture cannot be read: ")


def test_http_batch_search_keeps_order_and_reports_errors_in_place(server, index):
    body = {"searches": [{"query": "a dog", "limit": 2}, {"query": "-dog"}, {"query": "a cat"}]}
    dog, wrong, cat = server.post(f"{AT}/search/batch", json=body).json()["answers"]
    assert [hit["id"] for hit in dog["hits"]] == [hit.id for hit in index.search("a dog", k=2)]
    assert (wrong["status"], "hits" in wrong) == (400, False)
    assert len(cat["hits"]) == 20


def test_http_embeddings_match_index_embeddings(server, index):
    texts = ["a dog", "a windmill at dusk"]
    json_hit = server.post(f"{AT}/embeddings/texts", json={"texts": texts}).json()
    vectors = np.asarray(json_hit["embeddings"], np.float32)
    assert vectors.shape == (2, json_hit["dim"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, index.embed([library.Term(text) for text in texts]), atol=1e-6)
    first = index.search("a dog", k=1)[0]
    with first.path.open("rb") as file:
        sent = server.post(f"{AT}/embeddings/picture", files={"picture": file}).json()
    assert sent["fingerprint"] == json_hit["fingerprint"]
    score = float(np.asarray(sent["embeddings"][0]) @ vectors[0])
    assert score == pytest.approx(first.visual, abs=0.01)


def test_http_picture_record_returns_metadata_and_unknown_id_404(server, index):
    hit = index.search("a windmill", k=1)[0]
    json_hit = server.get(f"{AT}/pictures/{hit.id}").json()
    assert (json_hit["id"], json_hit["path"], json_hit["size_bytes"]) == (
        hit.id,
        str(hit.path),
        hit.size_bytes,
    )
    assert json_hit["links"]["thumbnail"] == f"{AT}/pictures/{hit.id}/thumbnail"
    missing = server.get(f"{AT}/pictures/99999")
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Index 'default' has no picture 99999."


@pytest.mark.parametrize(("size", "edge"), [("small", 160), ("medium", 400), ("large", 1280)])
def test_http_thumbnail_has_requested_size_and_etag_gives_304(server, index, size, edge):
    hit = index.search("a windmill", k=1)[0]
    answer = server.get(f"{AT}/pictures/{hit.id}/thumbnail", params={"size": size})
    assert answer.headers["content-type"] == "image/webp"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.format == "WEBP"
    assert max(picture.size) == min(edge, max(hit.width, hit.height))
    tag = answer.headers["etag"]
    again = server.get(
        f"{AT}/pictures/{hit.id}/thumbnail", params={"size": size}, headers={"If-None-Match": tag}
    )
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(("megabytes", "kept"), [("0", 0), ("1", 1)])
def test_http_thumbnails_are_cached_only_if_cache_size_is_above_zero(
    photo_index, monkeypatch, tmp_path, megabytes, kept
):
    monkeypatch.setenv("MMSEARCH_CACHE", str(tmp_path))
    monkeypatch.setenv("MMSEARCH_THUMBNAILS_MB", megabytes)
    with http_client(photo_index) as server:
        assert server.get(f"{AT}/pictures/1/thumbnail").status_code == 200
    assert len(list((tmp_path / "thumbnails").rglob("*.webp"))) == kept


def test_http_original_supports_range_requests(server, index):
    hit = index.search("a windmill", k=1)[0]
    content = hit.path.read_bytes()
    answer = server.get(f"{AT}/pictures/{hit.id}/original")
    assert (answer.content, answer.headers["content-type"]) == (content, "image/jpeg")
    wanted = {"Range": "bytes=10-19", "If-Range": answer.headers["etag"]}
    part = server.get(f"{AT}/pictures/{hit.id}/original", headers=wanted)
    assert (part.status_code, part.content) == (206, content[10:20])
    wanted["If-Range"] = '"another"'
    whole = server.get(f"{AT}/pictures/{hit.id}/original", headers=wanted)
    assert (whole.status_code, whole.content) == (200, content)
    part = server.get(f"{AT}/pictures/{hit.id}/original", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    beyond = server.get(
        f"{AT}/pictures/{hit.id}/original", headers={"Range": f"bytes={len(content)}-"}
    )
    assert beyond.status_code == 416


def test_http_concurrent_searches_each_get_their_own_answer(server, index):
    queries = [f"a {thing}" for thing in ("dog", "cat", "boat", "flower", "bird", "house")] * 6
    expected = {query: [hit.id for hit in index.search(query, k=5)] for query in set(queries)}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda query: search(server, query=query, limit=5), queries))
    for query, answer in zip(queries, answers, strict=True):
        assert [hit["id"] for hit in answer["hits"]] == expected[query]


def test_http_index_info_returns_counts_and_unknown_index_404(server):
    assert server.get("/v1/indexes").json() == {"indexes": ["default"]}
    json_hit = server.get(AT).json()
    assert (json_hit["pictures"], json_hit["sources"], json_hit["encoder"]) == (
        212,
        ["photos"],
        "starter",
    )
    missing = server.get("/v1/indexes/none")
    assert (missing.status_code, missing.json()["kind"]) == (404, "UnknownIndexError")


def test_http_metrics_after_search_report_index_and_route_counters(server):
    search(server, query="a boat")
    text = server.get("/metrics").text
    assert 'mmsearch_search_seconds_count{index="default",stage="encode"}' in text
    assert 'mmsearch_pictures{index="default"} 212.0' in text
    assert 'mmsearch_waiting{index="default"} 0.0' in text
    assert 'route="/v1/indexes/{name}/search",status="200"' in text
    server.get("/anything/that/nobody/serves")
    assert "anything" not in server.get("/metrics").text


def test_http_search_out_of_device_memory_returns_503_then_recovers(server, index, monkeypatch):
    class Full(torch.nn.Module):
        def forward(self, pixels):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    tower, encode, full = TorchTower(Full(), "cpu"), TwoTowerEncoder.encode, [True]

    def on_gpu(self, kind, batch):
        return tower.run(batch) if kind == InputKind.IMAGE and full else encode(self, kind, batch)

    monkeypatch.setattr(TwoTowerEncoder, "encode", on_gpu)
    picture = index.search("a windmill", k=1)[0].path.read_bytes()

    def ask():
        return server.post(f"{AT}/search/picture", files={"picture": picture})

    for _ in range(2):
        refused = ask()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["kind"] == "DeviceMemoryError"
        assert refused.json()["detail"].startswith("The memory of device 'cpu' is full: one pict")
        assert search(server, query="a boat")["hits"]
    full.clear()
    assert ask().status_code == 200


def test_http_health_and_readiness_endpoints_return_ok(server):
    assert server.get("/healthz").json() == {"ok": True}
    assert server.get("/readyz").json() == {"ready": True}


# --- index that changes while it is served ---


@pytest.fixture
def folder(photos, tmp_path):
    made = tmp_path / "few"
    made.mkdir()
    for path in sorted((photos / "photos").iterdir())[:5]:
        shutil.copy(path, made)
    return made


@pytest.fixture
def home(folder, tmp_path):
    home = tmp_path / "home"
    with library.open_index(home=home, model="starter") as index:
        index.add_folder(folder)
    return home


def ended(server, job, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        json_hit = server.get(f"{AT}/jobs/{job['id']}").json()
        if json_hit["state"] != "running":
            return json_hit
        time.sleep(0.05)
    raise AssertionError("the job does not end")


def test_http_job_adds_new_picture_and_search_counts_it(home, folder, photos):
    with http_client(home) as server:
        assert search(server, query="a photograph")["pictures"] == 5
        shutil.copy(sorted((photos / "photos").iterdir())[5], folder)
        started = server.post(f"{AT}/jobs", json={"source": "few"})
        assert started.status_code == 202
        with server.stream("GET", f"{AT}/jobs/{started.json()['id']}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            events = [json.loads(line[6:]) for line in stream.iter_lines() if line[:6] == "data: "]
        assert events[-1]["state"] == "finished"
        assert (events[-1]["report"]["added"], events[-1]["report"]["unchanged"]) == (1, 5)
        assert search(server, query="a photograph")["pictures"] == 6
        assert [job["id"] for job in server.get(f"{AT}/jobs").json()] == [started.json()["id"]]


def test_http_job_stopped_is_interrupted_and_next_job_completes_index(home, folder, photos):
    for path in sorted((photos / "photos").iterdir())[5:]:
        shutil.copy(path, folder)
    with http_client(home) as server:
        job = server.post(f"{AT}/jobs", json={"source": "few"}).json()
        second = server.post(f"{AT}/jobs", json={"source": "few"})
        assert second.status_code == 409
        assert server.delete(f"{AT}/jobs/{job['id']}").status_code == 202
        assert ended(server, job)["state"] == "interrupted"
        left = server.post(f"{AT}/jobs", json={"source": "few"}).json()
        assert ended(server, left)["state"] == "finished"
        assert search(server, query="a photograph")["pictures"] == len(list(folder.iterdir()))
    with library.open_index(home=home) as index:
        assert all(finding.weight is Severity.NOTE for finding in index.check())


def test_http_job_for_unknown_folder_or_disabled_indexing_is_refused(home, tmp_path):
    with http_client(home) as server:
        answer = server.post(f"{AT}/jobs", json={"source": str(tmp_path)})
        assert (answer.status_code, answer.json()["kind"]) == (404, "UnknownNameError")
        assert server.get(f"{AT}/jobs/none").status_code == 404
    with http_client(home, ServerConfig(allow_indexing=False)) as server:
        refused = server.post(f"{AT}/jobs", json={"source": "few"})
        assert refused.status_code == 403
        assert refused.json()["detail"].startswith("Indexing is turned off on this server.")


def test_http_job_updates_an_archive_and_a_table_but_no_other_place(home, folder, tmp_path):
    archive, table = tmp_path / "holidays.zip", tmp_path / "urls.csv"
    paths = sorted(folder.iterdir())
    with zipfile.ZipFile(archive, "w") as file:
        file.write(paths[0], "a.jpg")
    table.write_text("url\nhttp://127.0.0.1:9/a.jpg\n")
    with library.open_index(home=home) as index:
        index.add_source(archive)
        index.add_source(table)
        index.add([paths[0]], ["mine"])
    with zipfile.ZipFile(archive, "w") as file:
        file.write(paths[0], "a.jpg")
        file.write(paths[1], "b.jpg")
    with http_client(home) as server:
        listed = {source["name"]: source for source in server.get(f"{AT}/sources").json()}
        kinds = {name: source["kind"] for name, source in listed.items()}
        assert kinds == {
            "few": "folder",
            "holidays.zip": "archive",
            "urls.csv": "table",
            "records": "records",
        }
        assert listed["holidays.zip"]["place"] == str(archive)
        job = ended(server, server.post(f"{AT}/jobs", json={"source": "holidays.zip"}).json())
        assert (job["state"], job["report"]["copied"]) == ("finished", 1)
        job = server.post(f"{AT}/jobs", json={"source": "urls.csv", "retry_failed": True}).json()
        # No client makes the server fetch from an address that is not public.
        assert ended(server, job)["report"]["failed"] == 1
        archive.unlink()
        job = ended(server, server.post(f"{AT}/jobs", json={}).json())
        assert (job["state"], job["source"]) == ("finished", None)
        assert job["report"]["unchanged"] == len(paths)
        assert list(job["source_errors"]) == ["holidays.zip"]
        for source in (str(archive), str(folder), "http://127.0.0.1/a.zip", "records", ""):
            answer = server.post(f"{AT}/jobs", json={"source": source})
            assert answer.status_code in (400, 404, 422), source
            assert answer.json()["kind"] in ("UnknownNameError", "UsageError")


def test_http_search_like_picture_with_missing_file_gives_same_hits(home, folder):
    with http_client(home) as server:
        before = search(server, query="a photograph")["hits"][0]
        expected = search(server, like=[before["id"]])["hits"]
        folder.rename(folder.with_name("unplugged"))
        answer = search(server, like=[before["id"]])
        assert answer["hits"] == expected
        assert (len(expected), expected[0]["id"]) == (5, before["id"])
        assert answer["query"] == f"picture {before['id']}"
        assert search(server, query="a boat", like=[before["id"]])["pictures"] == 5


@pytest.mark.parametrize("image_id", [0, 99999, 2**70])
def test_http_search_like_unknown_picture_id_returns_404(server, image_id):
    answer = server.post(f"{AT}/search", json={"like": [image_id]})
    assert answer.status_code == 404
    message = f"Index 'default' has no picture {image_id}. Use the id of a hit."
    assert answer.json()["detail"] == message


def test_http_picture_whose_first_file_is_gone_shows_its_copy(home, folder):
    first = min(folder.iterdir())
    copy = folder / "zz copy.jpg"
    shutil.copy(first, copy)
    with library.open_index(home=home) as index:
        index.add_folder(folder)
    with http_client(home) as server:

        def find():
            hits = search(server, query="a photograph")["hits"]
            return next(hit for hit in hits if str(copy) in (hit["path"], *hit["copies"]))

        assert (find()["path"], find()["copies"]) == (str(first), [str(copy)])
        content = first.read_bytes()
        first.unlink()
        hit = find()
        assert (hit["path"], hit["copies"]) == (str(copy), [])
        assert server.get(hit["links"]["original"]).content == content
        assert server.get(hit["links"]["thumbnail"]).status_code == 200
        record = server.get(hit["links"]["self"]).json()
        assert (record["path"], record["copies"]) == (str(copy), [])


def test_http_picture_files_changed_since_indexing_return_410(home, folder):
    with http_client(home) as server:
        hit = search(server, query="a photograph")["hits"][0]
        path = folder / hit["path"].rsplit("/", 1)[1]
        path.write_bytes(b"a secret")
        for link in ("original", "thumbnail"):
            answer = server.get(hit["links"][link])
            assert answer.status_code == 410
            assert b"secret" not in answer.content
        path.unlink()
        assert server.get(hit["links"]["original"]).status_code == 410
        assert server.get(hit["links"]["self"]).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        f"{AT}/suggest?q=a",
        "/suggest?q=a",
        f"{AT}/duplicates?limit=3",
        f"{AT}/facets?q=a",
        f"{AT}/search?q=a",
        f"{AT}/items?limit=3",
        f"{AT}/pictures/1?",
        f"{AT}/pictures/1/thumbnail?",
        f"{AT}/sources?",
        f"{AT}?",
        "/v1/indexes?",
        "/metrics?",
    ],
)
def test_http_unknown_parameter_returns_422(server, path):
    assert server.get(path).status_code == 200
    answer = server.get(f"{path}&topk=3")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("query.topk is unknown")
    assert answer.json()["errors"] == [{"where": "query.topk", "what": "it is unknown"}]


def test_http_unknown_parameter_of_a_body_returns_422(server, photos):
    answer = server.post(f"{AT}/search?limit=3", json={"query": "a dog"})
    assert (answer.status_code, answer.json()["detail"][:22]) == (422, "query.limit is unknown")
    picture = min((photos / "photos").glob("*.jpg")).read_bytes()
    answer = server.post(f"{AT}/search/picture", files={"picture": picture}, data={"topk": "3"})
    assert (answer.status_code, answer.json()["detail"][:20]) == (422, "body.topk is unknown")


def test_http_health_and_page_accept_parameters_of_others(server):
    for path in ("/healthz", "/readyz", "/"):
        assert server.get(path, params={"utm_source": "mail"}).status_code == 200
