"""Suggestions over real photographs: what is suggested is found, the same on every surface."""

import asyncio
import csv
import os
import shutil
from dataclasses import replace

import httpx
import numpy as np
import pytest

import mmsearch
from mmsearch.client import Client
from mmsearch.core.errors import UnknownIndexError, UsageError
from mmsearch.core.suggestions import SuggestionState
from mmsearch.factories import catalogs, plugins
from mmsearch.maintenance import suggestions
from mmsearch.maintenance.suggestions import encode_vocabulary, is_due
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware
from mmsearch.server.config import ServerConfig
from mmsearch.storage.layout import IndexLayout
from tests.http_client import open_server_state

NUM_PHOTOS = 60
TOKEN = "a-token-of-the-tests"  # noqa: S105 - only for these tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    """Photographs with a table of captions, and with keywords that are their words."""
    folder = tmp_path_factory.mktemp("suggest") / "photos"
    folder.mkdir()
    with (photos / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[:NUM_PHOTOS]
    with (folder / "texts.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "title", "keywords"])
        for row in rows:
            name = row["path"].rpartition("/")[2]
            shutil.copy(photos / row["path"], folder / name)
            writer.writerow([name, row["source_title"], f"{row['word']}; museum piece"])
    for path in folder.iterdir():
        # A later run reads files again that were written just before it.
        os.utime(path, (1.5e9, 1.5e9))
    return folder


@pytest.fixture(scope="module")
def home(folder, environment):
    with pytest.MonkeyPatch.context() as patched:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patched.setenv(name, environment[name])
        home = folder.parent / "home"
        with mmsearch.open_index(home=home, model="starter") as index:
            index.add_folder(folder, captions=folder / "texts.csv")
        yield home


@pytest.fixture(scope="module")
def local(home):
    with mmsearch.open_index(home=home) as index:
        yield index


@pytest.fixture
def service(home):
    with open_server_state(home, ServerConfig(token=TOKEN)) as service:
        yield service


def test_words_of_texts_and_looks_are_suggested_and_found(local):
    (first, *_) = local.suggest("MUSEUM p")
    assert (first.text, first.kind, first.count) == ("museum piece", "tag", NUM_PHOTOS)
    found = [s for letter in "abcdefghijklmnopqrstuvwxyz" for s in local.suggest(letter, 50)]
    assert {"tag", "word", "look"} <= {s.kind for s in found}
    for suggestion in found:
        if suggestion.kind != "look":
            hits = local.search(suggestion.text, 60, mode="text")
            assert suggestion.item in {hit.id for hit in hits}, suggestion
    looks = [s for s in found if s.kind == "look"]
    for look in looks:
        hits = local.search(look.text, suggestions.NEAREST, mode="vector")
        assert look.item == hits[0].id
        shown = 1 - np.prod([1 - hit.confidence for hit in hits])
        assert shown >= suggestions.MIN_LOOK_CONFIDENCE - 0.01


def test_every_surface_has_the_same_suggestions(local, service, socket_enabled):
    expected = local.suggest("the g", 5)
    assert expected
    with serve_in_thread(service, 0) as url, Client(url, token=TOKEN) as client:
        assert client.suggest("the g", 5) == expected
        assert client.suggest() == local.suggest()
        assert client.suggest("m", kinds="tag") == local.suggest("m", kinds="tag")
        answers = [
            httpx.get(f"{url}{path}", params={"q": "the g", "limit": 5}, headers=headers)
            for path in ("/v1/indexes/default/suggest", "/suggest")
            for headers in ({"Authorization": f"Bearer {TOKEN}"}, {})
        ]
    assert [answer.status_code for answer in answers] == [200, 401, 200, 401]
    for answer in (answers[0], answers[2]):
        assert answer.json() == {"suggestions": [s.to_dict() for s in expected]}

    async def ask():
        transport = httpx.ASGITransport(wrap_with_middleware(make_app(service)))
        options = {"token": TOKEN, "transport": transport}
        async with mmsearch.AsyncClient("http://127.0.0.1:7788", **options) as client:
            return await client.suggest("the g", 5)

    assert asyncio.run(ask()) == expected


def test_wrong_input_is_an_error_with_a_next_step(local, home, service):
    with pytest.raises(UsageError, match="must be 1 to 50, got 0"):
        local.suggest("a", 0)
    with pytest.raises(UsageError, match="no kind of suggestion 'animal'"):
        local.suggest("a", kinds="animal")
    with pytest.raises(UsageError):
        local.suggest(5)
    transport = httpx.ASGITransport(wrap_with_middleware(make_app(service)))

    async def ask(path):
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://127.0.0.1:7788",
            headers={"Authorization": f"Bearer {TOKEN}"},
        ) as client:
            return (await client.get(path)).status_code

    at = "/v1/indexes/default/suggest"
    codes = [
        asyncio.run(ask(path))
        for path in (
            f"{at}?limit=0",
            f"{at}?limit=51",
            f"{at}?kind=animal",
            f"{at}?q={'x' * 3000}",
            "/v1/indexes/other/suggest",
            "/suggest?index=other",
        )
    ]
    assert codes == [422, 422, 422, 422, 404, 404]
    with (
        mmsearch.open_index("other", home=home) as index,
        pytest.raises(UnknownIndexError),
    ):
        index.suggest()


def test_no_model_is_loaded(home, monkeypatch):
    monkeypatch.setattr(plugins, "make_encoder", None)
    with mmsearch.open_index(home=home) as index:
        assert index.suggest("m")


@pytest.mark.parametrize(
    ("pictures", "last_text", "generation", "expected"),
    [
        (100, 100, 5, False),
        (100, 100, 6, True),
        (5000, 9000, 6, False),
        (5200, 9000, 6, False),
        (5600, 9000, 6, True),
        (4400, 9000, 6, True),
        (5000, 9999, 6, True),
    ],
)
def test_update_is_due_after_much_has_changed(pictures, last_text, generation, expected):
    large = pictures > suggestions.SMALL_PICTURES
    saved = SuggestionState("e", "v", 5000 if large else 100, 9000 if large else 100, 5)
    now = SuggestionState("e", "v", pictures, last_text, generation)
    assert is_due(saved, now) is expected
    assert not is_due(saved, replace(now, pictures=saved.pictures, last_text=saved.last_text), 0)
    assert is_due(replace(saved, encoder="other"), now)
    assert is_due(replace(saved, vocabulary="other"), now)
    assert is_due(None, now)
    assert not is_due(None, SuggestionState("e", "v", 0, 0, 0))


class CountingEncoder:
    """Encodes texts as ones, and counts them."""

    prompts = ("{}",)

    def __init__(self, spec):
        self.spec = spec
        self.encoded = 0

    def prepare(self, kind, payload):
        return np.zeros(1)

    def encode(self, kind, batch):
        self.encoded += len(batch)
        return np.full((len(batch), self.spec.dim), self.spec.dim**-0.5, np.float32)


def test_vocabulary_is_encoded_once(local, tmp_path):
    encoder = CountingEncoder(local.status().identity.encoder)
    words = [f"word {n}" for n in range(100)]
    vectors = encode_vocabulary(words, encoder, tmp_path)
    assert vectors.shape == (100, encoder.spec.dim)
    assert encoder.encoded == 100
    assert np.array_equal(encode_vocabulary(words, encoder, tmp_path), vectors)
    assert encoder.encoded == 100
    assert encode_vocabulary(words[:50], encoder, tmp_path).shape[0] == 50
    (kept,) = (path for path in tmp_path.rglob("*.npy") if path.stat().st_size > vectors.nbytes)
    kept.write_bytes(kept.read_bytes()[:200])
    assert np.array_equal(encode_vocabulary(words, encoder, tmp_path), vectors)


def test_slow_model_encodes_the_vocabulary_over_several_runs(local, tmp_path, monkeypatch):
    encoder = CountingEncoder(local.status().identity.encoder)
    words = [f"word {n}" for n in range(2 * suggestions.BATCH + 1)]
    monkeypatch.setattr(suggestions, "MAX_ENCODE_S", 0.0)
    assert encode_vocabulary(words, encoder, tmp_path) is None
    assert encode_vocabulary(words, encoder, tmp_path) is None
    assert encode_vocabulary(words, encoder, tmp_path).shape[0] == len(words)
    assert encoder.encoded == len(words)
    assert encode_vocabulary([*words, "more"], encoder, tmp_path, force=True).shape[0] == 34


def test_optimize_updates_the_suggestions_and_an_unchanged_run_does_not(home, folder):
    layout = IndexLayout(home / "default")
    with catalogs.open_write(layout, 0, create=False) as catalog:
        before = catalog.suggestions.saved_state()
        catalog.suggestions.save([], before)
    with mmsearch.open_index(home=home) as index:
        index.add_folder(folder)
        # A long prefix is found in the full-text index.
        assert index.suggest("museum p")
        assert index.suggest("g") == []
        index.optimize()
        assert index.suggest("g")
    with catalogs.open_write(layout, 0, create=False) as catalog:
        after = catalog.suggestions.saved_state()
        assert after == replace(before, generation=after.generation)
