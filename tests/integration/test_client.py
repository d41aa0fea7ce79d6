"""The client over the whole server gives the same answers as the index."""

import asyncio
import io
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import mmsearch
from mmsearch.client import Client
from mmsearch.core.errors import (
    DecodeError,
    ForbiddenError,
    GoneError,
    InvalidQueryError,
    ServerError,
    UnauthorizedError,
    UnknownIndexError,
    UnknownNameError,
    UnreachableError,
    UsageError,
)
from mmsearch.core.query import Term
from mmsearch.core.server_results import JobStatus
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware
from mmsearch.server.config import ServerConfig
from tests.http_client import open_server_state

KNOWN = "a-token-of-the-tests"
UNKNOWN = "another"

SAME = (
    "id",
    "rank",
    "score",
    "visual",
    "text",
    "matched",
    "confidence",
    "band",
    "width",
    "height",
    "format",
    "taken_at",
    "camera",
    "latitude",
    "longitude",
    "modified_at",
    "size_bytes",
    "texts",
)


@pytest.fixture(scope="module")
def home(photo_index, tmp_path_factory):
    """Copy the index, because jobs write into it."""
    return shutil.copytree(photo_index, tmp_path_factory.mktemp("served") / "home")


@pytest.fixture(scope="module")
def local(home, environment):
    with pytest.MonkeyPatch.context() as patched:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patched.setenv(name, environment[name])
        with mmsearch.open_index(home=home) as index:
            yield index


@pytest.fixture(scope="module")
def service(home, environment):
    with pytest.MonkeyPatch.context() as patched:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patched.setenv(name, environment[name])
        with open_server_state(home, ServerConfig(token=KNOWN, max_upload_mb=5)) as service:
            yield service


@pytest.fixture
def client(service, socket_enabled):
    """Client of a server that runs in another thread and listens on a socket."""
    with serve_in_thread(service, 0) as url, mmsearch.Client(url, token=KNOWN) as client:
        yield client


@pytest.fixture
def asked(service):
    """Runner of ``asked(lambda client: client.status())`` in an event loop without a socket."""

    def run(ask, **options):
        async def main():
            transport = httpx.ASGITransport(wrap_with_middleware(make_app(service)))
            given = {"token": KNOWN, "transport": transport} | options
            async with mmsearch.AsyncClient("http://127.0.0.1:7788", **given) as client:
                return await ask(client)

        return asyncio.run(main())

    return run


def assert_same(remote, local):
    assert [[getattr(hit, name) for name in SAME] for hit in remote] == [
        [getattr(hit, name) for name in SAME] for hit in local
    ]
    assert [str(hit.path) for hit in remote] == [str(hit.path) for hit in local]
    assert [hit.copies for hit in remote] == [hit.copies for hit in local]


def test_client_search_returns_same_hits_as_local_index(client, local):
    for query in ("a dog", "2:windmill + sky - people", "train"):
        for mode in (None, "vector", "text"):
            found = client.search(query, 20, mode=mode)
            assert_same(found, local.search(query, 20, mode=mode))
    first = client.search("a dog")[0]
    assert first.links["thumbnail"] == f"/v1/indexes/default/pictures/{first.id}/thumbnail"


def test_client_search_with_large_k_fetches_all_hits_over_pages(client, local):
    found = client.search("a dog", 1000, fold=False)
    assert len(found) == local.status().pictures > 200
    assert_same(found, local.search("a dog", 1000, fold=False))
    assert_same(client.search("a dog", 1000), local.search("a dog", 1000))


def test_client_sort_orders_hits_of_all_pages_as_local_index(client, local, photos):
    for sort in ("name", "-size", "date"):
        assert_same(client.search("a dog", 205, sort=sort), local.search("a dog", 205, sort=sort))
    picture = min((photos / "photos").iterdir())
    found = [hit.id for hit in client.similar(picture, 4, sort="-name")]
    assert found == [hit.id for hit in local.similar(picture, 4, sort="-name")]
    for source in (client, local):
        with pytest.raises(InvalidQueryError, match="Unknown sort order 'colour'"):
            source.search("a dog", sort="colour")


def test_client_search_with_right_and_wrong_hits_matches_local_index(client, asked, local):
    first = client.search("a windmill", 6)
    expected = local.search("a windmill", 30, like=first[1], unlike=[first[0], first[5]])
    options = {"like": first[1], "unlike": [first[0].id, first[5].id]}
    assert_same(client.search("a windmill", 30, **options), expected)
    assert_same(asked(lambda other: other.search("a windmill", 30, **options)), expected)
    parsed = mmsearch.parse_query("a windmill", **options)
    assert_same(client.search(parsed, 30), expected)
    similar = client.similar(first[1], 30, query="a windmill", unlike=[first[0], first[5]])
    assert_same(similar, expected)
    uploaded = client.similar(local.original(first[1].id), 30, unlike=first[0])
    assert first[0].id not in [hit.id for hit in uploaded]


def test_async_client_concurrent_searches_match_local_index(asked, local):
    async def several(client):
        return await asyncio.gather(*(client.search(query) for query in ("a dog", "a boat")))

    dogs, boats = asked(several)
    assert_same(dogs, local.search("a dog"))
    assert_same(boats, local.search("a boat"))


def test_client_search_with_negatives_and_thresholds_matches_local_index(client, local):
    found = client.search("a dog", 30, without=["snow"])
    assert_same(found, local.search(mmsearch.parse_query("a dog", without=["snow"]), 30))
    least = found[9].score
    fewer = client.search("a dog", 30, without=["snow"], min_score=least)
    assert [hit.id for hit in fewer] == [hit.id for hit in found if hit.score >= least]
    sure = client.search("a dog", 30, min_confidence=0.5)
    assert_same(sure, local.search("a dog", 30, min_confidence=0.5))


def test_client_search_accepts_filters_as_mapping_or_filters_object(client, local):
    where = "width > height and megapixels > 0.1"
    given = {"where": where, "format": ["jpg"], "path": ["photos/1*"]}
    filters = mmsearch.parse_filters(where=where, formats=["jpg"], paths=["photos/1*"])
    found = client.search("a dog", 50, filters=given)
    assert 0 < len(found) < 50
    assert_same(found, local.search("a dog", 50, filters=filters))
    plain = mmsearch.parse_filters(orientation="portrait", paths=["photos/*"])
    found = client.search("a dog", 50, filters=plain)
    assert found
    assert all(hit.height > hit.width for hit in found)
    assert_same(found, local.search("a dog", 50, filters=plain))


def test_client_similar_by_file_bytes_id_or_hit_finds_same_picture(client, local, photos):
    file = min((photos / "photos").iterdir())
    by_file = client.similar(file, 5)
    assert by_file[0].path == file
    assert by_file[0].score > 0.95
    assert [hit.id for hit in client.similar(file.read_bytes(), 5)] == [hit.id for hit in by_file]
    by_id = client.similar(by_file[0].id, 5)
    assert_same(by_id, local.similar(file, 5))
    assert [hit.id for hit in client.similar(by_file[0], 5)] == [hit.id for hit in by_id]
    least = by_file[2].score
    assert len(client.similar(file, 5, min_score=least)) == 3
    liked = client.search("", 5, like=[by_file[0]])
    assert_same(liked, local.search(mmsearch.parse_query(images=[file]), 5))


def test_client_similar_with_words_and_filters_matches_local_search(client, asked, local, photos):
    file = min((photos / "photos").iterdir())
    portrait = mmsearch.parse_filters(orientation="portrait")
    query = mmsearch.parse_query("at night", without=["snow"], images=[file], filters=portrait)
    expected = local.search(query, 10)
    more = {"query": "at night", "without": ["snow"], "filters": {"orientation": "portrait"}}
    known = local.similar(file, 1)[0].id
    # A picture of the index beside words is a hit that is right.
    marked = mmsearch.parse_query("at night", without=["snow"], like=known, filters=portrait)
    assert_same(client.similar(known, 10, **more), local.search(marked, 10))
    # The client shrinks the picture before the upload, so scores differ a little.
    sent = client.similar(file, 10, **more)
    assert {hit.id for hit in sent[:3]} <= {hit.id for hit in expected}
    assert sent[0].score == pytest.approx(expected[0].score, abs=0.02)
    assert all(hit.height > hit.width for hit in sent)
    waited = asked(lambda client: client.similar(file.read_bytes(), 10, **more))
    assert [hit.id for hit in waited] == [hit.id for hit in sent]
    middle = sorted(hit.confidence for hit in sent)[5]
    sure = client.similar(file, 10, min_confidence=middle, **more)
    assert [hit.id for hit in sure] == [hit.id for hit in sent if hit.confidence >= middle]
    least = client.similar(file, 10, min_score=sent[4].score, **more)
    assert [hit.id for hit in least] == [hit.id for hit in sent[:5]]
    with pytest.raises(InvalidQueryError, match="without words cannot be searched in texts"):
        client.similar(file, mode="text")
    with pytest.raises(UsageError):
        client.similar(file, mode="smell")


def test_client_picture_calls_return_thumbnail_original_and_record(client, local):
    hit = client.search("a dog")[0]
    thumbnail = Image.open(io.BytesIO(client.thumbnail(hit, "small")))
    assert (thumbnail.format, max(thumbnail.size)) == ("WEBP", 160)
    assert max(Image.open(io.BytesIO(client.thumbnail(hit.id))).size) == 400
    original = client.original(hit)
    with open(hit.path, "rb") as file:
        assert original == file.read()
    picture, record = client.picture(hit.id), local.picture(hit.id)
    assert (picture.id, picture.width, picture.texts) == (hit.id, hit.width, hit.texts)
    assert picture.modified_at == record.mtime_ns / 1e9
    assert client.picture(10**6) is None


def test_client_embeddings_match_those_of_local_index(client, local, photos):
    texts = [f"{number} dogs" for number in range(101)]
    vectors = client.embed_texts(texts)
    assert (vectors.dtype, len(vectors)) == (np.float32, 101)
    expected = local.embed([Term(text) for text in texts])
    # Batches of another size may round differently.
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    file = min((photos / "photos").iterdir())
    vector = client.embed_picture(file)
    assert vector.shape == (1, vectors.shape[1])
    assert float((vector @ local.embed([Term(image=file)]).T)[0, 0]) > 0.99


def test_client_status_matches_local_index(client, local):
    status, expected = client.status(), local.status()
    assert (status.name, status.pictures, status.files, status.generation) == (
        "default",
        expected.pictures,
        expected.files,
        expected.generation,
    )
    assert status.encoder == expected.identity.encoder.name
    assert status.sources == ("photos",)
    assert status.bytes_by_part == dict(expected.bytes_by_part)


def test_client_job_started_and_followed_ends_finished(client, asked):
    job = client.start_job("photos", verify=True)
    assert isinstance(job, JobStatus)
    assert job.source == "photos"
    job_events = list(client.follow(job))
    assert job_events[-1].state == "finished"
    assert job_events[-1].report["unchanged"] >= client.status().pictures > 200
    assert job_events[-1].report["added"] == 0
    assert client.job(job.id) == job_events[-1]
    assert client.stop_job(job) == job_events[-1]

    async def follow(client):
        return [state async for state in client.follow(job)]

    assert asked(follow) == [job_events[-1]]
    (source,) = client.sources()
    assert (source.name, source.kind, source.outcome) == ("photos", "folder", "finished")
    assert source.pictures > 200
    assert asked(lambda client: client.sources()) == [source]
    everything = client.start_job()
    assert everything.source is None
    assert list(client.follow(everything))[-1].report["unchanged"] == source.pictures
    with pytest.raises(UnknownNameError, match=r"no source named 'elsewhere'\. Known: photos"):
        client.start_job("elsewhere")
    with pytest.raises(UnknownNameError, match="has no job 'none'"):
        list(client.follow("none"))


def test_client_error_responses_raise_matching_exception_types(asked, local):
    with pytest.raises(InvalidQueryError) as expected:
        local.search("- dog", syntax=True)
    with pytest.raises(InvalidQueryError) as caught:
        asked(lambda client: client.search("- dog", syntax=True))
    assert str(caught.value) == str(expected.value)
    with pytest.raises(UnknownIndexError, match="There is no index 'other' here"):
        asked(lambda client: client.search("a dog"), index="other")
    with pytest.raises(UnknownNameError, match="has no picture 1000000"):
        asked(lambda client: client.similar(10**6))
    with pytest.raises(DecodeError, match="The uploaded picture cannot be read"):
        asked(lambda client: client.similar(b"no picture"))
    with pytest.raises(UsageError, match="min_height must be a whole number"):
        asked(lambda client: client.search("a dog", filters={"min_height": -1}))
    with pytest.raises(UsageError, match="There is no filter 'colour'"):
        asked(lambda client: client.search("a dog", filters={"colour": "red"}))
    with pytest.raises(InvalidQueryError, match="A query over HTTP cannot name files"):
        asked(lambda client: client.search("image:/etc/hostname", syntax=True))
    with pytest.raises(UsageError, match="larger than 5 MB"):
        asked(lambda client: client.similar(bytes(6_000_000)))


def test_client_missing_or_wrong_token_raises_unauthorized_error(asked):
    with pytest.raises(UnauthorizedError, match=r"requires a token\. Pass it as token="):
        asked(lambda client: client.status(), token=None)
    with pytest.raises(UnauthorizedError, match="The token that was sent is wrong"):
        asked(lambda client: client.status(), token=UNKNOWN)


def test_client_start_job_with_indexing_disabled_raises_forbidden_error(home):
    with open_server_state(home, ServerConfig(allow_indexing=False)) as service:
        app = wrap_with_middleware(make_app(service))

        async def start():
            transport = httpx.ASGITransport(app)
            async with mmsearch.AsyncClient("http://127.0.0.1", transport=transport) as client:
                await client.start_job("photos")

        with pytest.raises(ForbiddenError, match="Indexing is turned off on this server"):
            asyncio.run(start())


def test_client_server_not_running_raises_unreachable_error(socket_enabled):
    with (
        mmsearch.Client("http://127.0.0.1:9") as client,
        pytest.raises(UnreachableError, match="cannot be reached: Connection refused") as caught,
    ):
        client.search("a dog")
    assert isinstance(caught.value, ServerError)


def test_python_client_doc_examples_print_expected_output(
    home, photos, socket_enabled, tmp_path, monkeypatch
):
    guides = Path(mmsearch.__file__).parents[1] / "docs" / "how-to"
    pages = [(guides / name).read_text("utf-8") for name in ("python-client.md", "retrievers.md")]
    examples = re.findall(r"^```python\n(.*?)^```", "".join(pages), re.MULTILINE | re.DOTALL)
    picture = min((photos / "photos").iterdir())
    shutil.copy(picture, tmp_path / "car.jpg")
    (tmp_path / "images").mkdir()
    shutil.copy(picture, tmp_path / "images" / "1.jpg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMSEARCH_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("MMSEARCH_MODEL", "starter")
    with open_server_state(home) as service, serve_in_thread(service, 0) as url:
        printed = [_printed(example.replace("http://127.0.0.1:7788", url)) for example in examples]
    search, more, _, records, job, waiting, wrong, *retrievers = printed
    langchain, langchain_store, llama_index, llama_index_store = retrievers
    assert records.startswith("2 0 0 ()\n")
    assert records.endswith("{'price': 80} True 212\n")
    assert "'price': 90" in langchain_store
    assert "'price': 90" in llama_index_store
    assert search.count("\n") == 5
    assert search.startswith("1. 0.")
    assert 0 < int(more.split()[0]) < 212
    assert job.startswith("212 pictures\n")
    assert "'unchanged': 212" in job
    assert waiting.count(".jpg") == 2
    assert wrong == "There is no index 'nowhere' here. GET /v1/indexes lists them.\n"
    assert langchain.count("/thumbnail ") == 3
    assert llama_index.count("/original ") == 3
    assert llama_index.endswith(".jpg\n")


def _printed(program):
    with redirect_stdout(io.StringIO()) as printed:
        exec(program, {})  # noqa: S102
    return printed.getvalue()


def test_client_deleted_picture_file_raises_gone_error(mmsearch, photos, tmp_path, socket_enabled):
    folder, home = tmp_path / "few", tmp_path / "home"
    folder.mkdir()
    shutil.copy(min((photos / "photos").iterdir()), folder / "one.jpg")
    mmsearch("index", folder, "--home", home, "--model", "starter")
    with (
        open_server_state(home) as service,
        serve_in_thread(service, 0) as url,
        Client(url) as client,
    ):
        (hit,) = client.search("a dog")
        assert client.original(hit) == (folder / "one.jpg").read_bytes()
        (folder / "one.jpg").unlink()
        for ask in (client.original, client.thumbnail):
            with pytest.raises(GoneError, match=f"picture {hit.id} is gone or has changed"):
                ask(hit)
