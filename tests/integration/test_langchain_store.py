"""The LangChain vector store keeps pictures, passes the standard tests and refuses texts alone."""

import hashlib

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_tests.integration_tests import VectorStoreIntegrationTests
from PIL import Image

import mmsearch
from mmsearch.core.errors import SourceError, UsageError
from mmsearch.integrations.langchain import MMSearchVectorStore


def draw(document):
    """Return a picture that depends on the text of a document."""
    return Image.new(
        "RGB", (48, 32), tuple(hashlib.sha256(document.page_content.encode()).digest()[:3])
    )


@pytest.fixture
def store(tmp_path, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        yield MMSearchVectorStore(index, load_image=draw)


class TestStorePassesLangchainStandardTests(VectorStoreIntegrationTests):
    """LangChain's standard tests; their documents have no pictures, so these are drawn."""

    @pytest.fixture
    def vectorstore(self, store):
        return store


def test_store_finds_by_caption_metadata_and_score(store):
    store.add_images(
        [Image.new("RGB", (40, 40), "red"), Image.new("RGB", (40, 40), "blue")],
        [{"price": 5, "shop": "Rome"}, {"price": 50}],
        ids=["a", "b"],
        texts=["red paint", ""],
    )
    assert store.similarity_search("paint", k=1)[0].page_content == "red paint"
    for conditions in ({"price": {"$gt": 9}}, {"price": {"gt": 9}}, {"price": 50}):
        assert [d.id for d in store.similarity_search("paint", filter=conditions)] == ["b"]
    ((document, score),) = store.similarity_search_with_score("paint", k=1)
    assert (document.id, document.metadata["shop"]) == ("a", "Rome")
    assert isinstance(score, float)
    assert store.similarity_search("paint", filters={"metadata.price": 5})[0].id == "a"
    ((_, relevance),) = store.similarity_search_with_relevance_scores("paint", k=1)
    assert 0 <= relevance <= 1
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"price": 50}})
    assert [found.id for found in retriever.invoke("paint")] == ["b"]


def test_store_refuses_texts_alone_and_wrong_arguments(store, tmp_path):
    plain = MMSearchVectorStore(store.index)
    with pytest.raises(UsageError, match="has no picture"):
        plain.add_texts(["a poem"])
    with pytest.raises(UsageError, match="ids of the documents"):
        plain.delete()
    with pytest.raises(UsageError, match="does not accept fetch_k"):
        plain.similarity_search("x", fetch_k=3)
    with pytest.raises(UsageError, match="Pass None as embedding"):
        plain.from_texts(["a"], DeterministicFakeEmbedding(size=3), index=store.index)
    with pytest.raises(UsageError, match="cannot write to a NoneType"):
        plain.from_texts(["a"])
    picture = tmp_path / "a.png"
    Image.new("RGB", (9, 9)).save(picture)
    assert not store.index.exists()
    with pytest.raises(SourceError, match="1 pictures cannot be read, such as that of 'gone'"):
        plain.add_documents(
            [
                Document(
                    id="gone", page_content="", metadata={"image": str(tmp_path / "none.png")}
                ),
                Document(id="here", page_content="", metadata={"image": str(picture)}),
            ]
        )
    assert [found.id for found in plain.get_by_ids(["gone", "here"])] == ["here"]
    made = MMSearchVectorStore.from_texts(["dark"], images=[picture], ids=["x"], index=store.index)
    assert made.get_by_ids(["x"])[0].page_content == "dark"
