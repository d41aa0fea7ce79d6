"""The LangChain retriever works alone, in batches and in a chain, sync and async."""

import asyncio
import sys

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_tests.integration_tests import RetrieversIntegrationTests

import mmsearch
from mmsearch.core.errors import InvalidQueryError, MissingExtraError, UsageError
from mmsearch.integrations.langchain import MMSearchRetriever
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware

QUERIES = ["a dog", "a boat", "a windmill", "snow", "a train", "flowers"]


def ids(documents):
    return [document.metadata["id"] for document in documents]


class TestRetrieverPassesLangchainStandardTests(RetrieversIntegrationTests):
    """LangChain's standard tests for retrievers."""

    @pytest.fixture(autouse=True)
    def _source(self, index):
        self.source = index

    @property
    def retriever_constructor(self):
        return MMSearchRetriever

    @property
    def retriever_constructor_params(self):
        return {"source": self.source}

    @property
    def retriever_query_example(self):
        return "a dog"


def test_langchain_retriever_call_options_override_constructor_options(index):
    retriever = MMSearchRetriever(source=index, k=2)
    portrait = mmsearch.parse_filters(orientation="portrait")
    expected = [hit.id for hit in index.search("a dog", 5, filters=portrait, mode="vector")]
    changes = {"k": 5, "filters": portrait, "mode": "vector"}
    assert ids(retriever.invoke("a dog", **changes)) == expected
    assert ids(asyncio.run(retriever.ainvoke("a dog", **changes))) == expected
    assert len(retriever.invoke("a dog", verbose=True)) == 2


def test_langchain_retriever_takes_right_and_wrong_hits(index):
    retriever = MMSearchRetriever(source=index, k=20)
    first = index.search("a dog", 20)
    expected = [hit.id for hit in index.search("a dog", 20, like=first[2], unlike=first[0])]
    assert ids(retriever.invoke("a dog", like=first[2].id, unlike=[first[0]])) == expected
    with pytest.raises(UsageError, match="like must be ids of pictures or hits"):
        retriever.invoke("a dog", like="the first")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"source": "x"}, "A retriever cannot search a str. Pass an mmsearch.Index"),
        ({"source": None}, "A retriever cannot search a NoneType."),
        ({}, "source is missing. A retriever accepts source, k, "),
        ({"top_k": 3}, "top_k is unknown. A retriever accepts source, k, "),
        ({"k": "many"}, "k must be a whole number, got '"),
        ({"k": 0}, "k must be a whole number above 0, got 0."),
        ({"mode": 5}, "mode must be a string, got 5. "),
        ({"min_score": "high"}, "min_score must be a number, got 'high'. "),
        (
            {"filters": {"orientation": "upright"}},
            "Unknown orientation 'upright'. Known: landscape",
        ),
        ({"filters": {"colour": "red"}}, "There is no filter 'colour'. Known: path, "),
        ({"filters": 5}, "filters must be Filters or a dict of filters, got 5."),
        ({"mode": "smell"}, "Unknown mode 'smell'. Known: vector, text, hybrid."),
    ],
)
def test_langchain_retriever_invalid_arguments_raise_usage_error(index, arguments, said):
    given = arguments if "source" in arguments or not arguments else {"source": index} | arguments
    with pytest.raises(UsageError) as caught:
        MMSearchRetriever(**given)
    assert said in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"top_k": 3}, "A call of the retriever does not accept top_k. It accepts k, filters, "),
        ({"source": 1}, "A call of the retriever does not accept source."),
        ({"k": 0}, "k must be a whole number above 0, got 0."),
        ({"k": "x"}, "k must be a whole number, got '"),
    ],
)
def test_langchain_retriever_invalid_call_options_raise_usage_error(index, changes, said):
    retriever = MMSearchRetriever(source=index)
    for call in (retriever.invoke, lambda *a, **kw: asyncio.run(retriever.ainvoke(*a, **kw))):
        with pytest.raises(UsageError) as caught:
            call("a dog", **changes)
        assert said in str(caught.value)


@pytest.mark.parametrize("query", [5, None, ["a dog"], {"q": "a dog"}, b"a dog"])
def test_langchain_retriever_query_that_is_not_text_raises_error(index, query):
    for literal in (False, True):
        with pytest.raises(InvalidQueryError, match="A query must be a string, not a "):
            MMSearchRetriever(source=index, literal=literal).invoke(query)


def test_langchain_documents_carry_fields_of_search_hits(index):
    retriever = MMSearchRetriever(source=index, k=4)
    documents = retriever.invoke("a dog")
    hits = index.search("a dog", 4)
    for document, hit in zip(documents, hits, strict=True):
        assert isinstance(document, Document)
        assert document.id == str(hit.id)
        assert document.metadata["id"] == hit.id
        assert document.metadata["path"] == str(hit.path)
        assert document.metadata["score"] == hit.score
        assert document.metadata["confidence"] == hit.confidence
        assert document.metadata["band"] == hit.band.value
        assert "thumbnail" not in document.metadata
        assert document.page_content == (hit.matched.text if hit.matched else str(hit.path))


def test_langchain_retriever_batch_equals_single_searches(index):
    retriever = MMSearchRetriever(source=index, k=3)
    expected = [[hit.id for hit in index.search(query, 3)] for query in QUERIES]
    assert [ids(found) for found in retriever.batch(QUERIES)] == expected
    assert [ids(found) for found in asyncio.run(retriever.abatch(QUERIES))] == expected


def test_langchain_retriever_search_options_match_index_search(index):
    filters = mmsearch.parse_filters(orientation="portrait")
    retriever = MMSearchRetriever(source=index, k=50, filters=filters, mode="vector", min_score=0.1)
    expected = index.search("a dog", 50, filters=filters, mode="vector", min_score=0.1)
    documents = retriever.invoke("a dog")
    assert ids(documents) == [hit.id for hit in expected]
    assert all(found.metadata["height"] > found.metadata["width"] for found in documents)


@pytest.mark.parametrize(
    "line", ["image:{photo}", "{photo}", "a dog - image:{photo}", "a dog + image:https://a.example"]
)
def test_langchain_retriever_text_naming_files_or_urls_is_refused(index, photos, line):
    photo = min((photos / "photos").iterdir())
    with pytest.raises(InvalidQueryError, match="The text of a query cannot name files"):
        MMSearchRetriever(source=index, literal=False).invoke(line.format(photo=photo))


@pytest.mark.parametrize(
    "text",
    ["- a red car", 'a "dog', "2:cat - 3", "/etc/passwd", "image:https://a.example", "a + b"],
)
def test_langchain_retriever_literal_text_is_not_parsed_as_query(
    index, service, text, socket_enabled
):
    expected = index.search(mmsearch.Query((mmsearch.Term(text),)), 5)
    assert ids(MMSearchRetriever(source=index, k=5).invoke(text)) == [hit.id for hit in expected]
    with serve_in_thread(service, 0) as url, mmsearch.Client(url) as client:
        retriever = MMSearchRetriever(source=client, k=5)
        assert ids(retriever.invoke(text)) == [hit.id for hit in expected]


def test_langchain_retriever_in_chain_honours_configured_k(index):
    retriever = MMSearchRetriever(source=index, k=2).configurable_fields(k=ConfigurableField("k"))
    chain = RunnableLambda(lambda asked: asked["question"]) | retriever | RunnableLambda(ids)
    assert chain.invoke({"question": "a dog"}) == [hit.id for hit in index.search("a dog", 2)]
    more = chain.invoke({"question": "a dog"}, config={"configurable": {"k": 7}})
    assert more == [hit.id for hit in index.search("a dog", 7)]


def test_langchain_document_content_is_sidecar_text_if_present(mmsearch, photos, tmp_path):
    import mmsearch as library

    folder, home = tmp_path / "told", tmp_path / "home"
    folder.mkdir()
    with_text, without_text, *_ = sorted((photos / "photos").iterdir())
    for path in (with_text, without_text):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / with_text.name).with_suffix(".txt").write_text("The mill at Cley", encoding="utf-8")
    mmsearch("index", folder, "--home", home, "--model", "starter")
    with library.open_index(home=home) as index:
        first, second = MMSearchRetriever(source=index).invoke("mill at Cley")
        assert first.page_content == "The mill at Cley"
        assert first.metadata["matched"] == "The mill at Cley"
        assert second.page_content == str(folder / without_text.name)
        (unmatched,) = (
            found
            for found in MMSearchRetriever(source=index, mode="vector").invoke("zebra")
            if found.metadata["texts"]
        )
        assert unmatched.page_content == "The mill at Cley"


def test_langchain_retriever_over_client_matches_local_index(service, index, socket_enabled):
    with serve_in_thread(service, 0) as url, mmsearch.Client(url) as client:
        retriever = MMSearchRetriever(source=client, k=3, filters={"orientation": "portrait"})
        portrait = mmsearch.parse_filters(orientation="portrait")
        expected = [[hit.id for hit in index.search(each, 3, filters=portrait)] for each in QUERIES]
        documents = retriever.batch(QUERIES)
        assert [ids(found) for found in documents] == expected
        assert ids(asyncio.run(retriever.ainvoke("a dog"))) == expected[0]
        links = documents[0][0].metadata
        at = f"{url}/v1/indexes/default/pictures/{links['id']}"
        assert (links["original"], links["thumbnail"]) == (f"{at}/original", f"{at}/thumbnail")
        shown = httpx.get(links["thumbnail"], trust_env=False)
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp")


def test_langchain_retriever_with_async_client_searches_in_event_loop(service, index):
    async def ask():
        transport = httpx.ASGITransport(wrap_with_middleware(make_app(service)))
        async with mmsearch.AsyncClient("http://127.0.0.1", transport=transport) as client:
            retriever = MMSearchRetriever(source=client, k=3)
            with pytest.raises(UsageError, match="An AsyncClient cannot be used synchronously"):
                retriever.invoke("a dog")
            return await retriever.abatch(QUERIES)

    expected = [[hit.id for hit in index.search(query, 3)] for query in QUERIES]
    assert [ids(found) for found in asyncio.run(ask())] == expected


def test_langchain_import_without_library_raises_missing_extra_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "mmsearch.integrations.langchain")
    monkeypatch.setitem(sys.modules, "langchain_core.callbacks", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[langchain\]'"):
        import mmsearch.integrations.langchain  # noqa: F401
