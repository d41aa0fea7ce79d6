"""The LlamaIndex retriever works alone, fused and in a query engine, sync and async."""

import asyncio
import json
import os
import sys
import threading
from typing import ClassVar

import httpx
import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms import MockLLM
from llama_index.core.llms.mock import MockLLMWithChatMemoryOfLastCall
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.tools import RetrieverTool
from llama_index.core.vector_stores.utils import node_to_metadata_dict

import mmsearch
from mmsearch.core.errors import InvalidQueryError, MissingExtraError, SourceError, UsageError
from mmsearch.integrations.llama_index import MMSearchRetriever
from mmsearch.server.app import make_app, serve_in_thread, wrap_with_middleware

QUERIES = ["a dog", "a boat", "a windmill", "snow", "a train", "flowers"]
FUSIONS = ["simple", "reciprocal_rerank", "relative_score", "dist_based_score"]


@pytest.fixture
def picture(photos):
    return min((photos / "photos").iterdir())


@pytest.fixture(scope="module")
def described_home(request, photos, tmp_path_factory):
    """Home of an index of two pictures; a sidecar gives texts to the first."""
    command = request.getfixturevalue("mmsearch")
    folder = tmp_path_factory.mktemp("described_index")
    home = tmp_path_factory.mktemp("home")
    for path in sorted((photos / "photos").iterdir())[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    first = min(folder.iterdir())
    sidecar = {
        "title": "The mill at Cley",
        "description": "Seen from a boat",
        "keywords": ["Norfolk"],
    }
    first.with_suffix(".json").write_text(json.dumps(sidecar), encoding="utf-8")
    command("index", folder, "--home", home, "--model", "starter")
    return home


@pytest.fixture
def described_index(described_home):
    with mmsearch.open_index(home=described_home) as index:
        yield index


def ids(nodes):
    return [found.node.metadata["id"] for found in nodes]


def hit_ids(hits):
    return [hit.id for hit in hits]


def test_llama_index_nodes_carry_fields_of_search_hits(index):
    nodes = MMSearchRetriever(index, k=4).retrieve("a dog")
    for found, hit in zip(nodes, index.search("a dog", 4), strict=True):
        assert isinstance(found, NodeWithScore)
        assert isinstance(found.node, ImageNode)
        assert found.score == hit.score
        assert found.node.image_path == str(hit.path)
        assert found.node.resolve_image() == str(hit.path)
        assert found.node.image_url is None
        assert found.node.image_mimetype == "image/jpeg"
        assert found.node.text == str(hit.path)
        assert found.metadata["confidence"] == hit.confidence
        assert found.metadata["band"] == hit.band.value
        assert "thumbnail" not in found.metadata


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": "many"}, "k must be a whole number above 0, got 'many'."),
        ({"k": 0}, "k must be a whole number above 0, got 0."),
        ({"k": True}, "k must be a whole number above 0, got True."),
        ({"mode": 5}, "mode must be a string, got 5."),
        ({"min_score": "high"}, "min_score must be a number, got 'high'."),
        ({"min_confidence": [1]}, "min_confidence must be a number, got [1]."),
    ],
)
def test_llama_index_retriever_invalid_arguments_raise_usage_error(index, arguments, said):
    with pytest.raises(UsageError) as caught:
        MMSearchRetriever(index, **arguments)
    assert said in str(caught.value)


def test_llama_index_retriever_unknown_argument_raises_type_error(index):
    with pytest.raises(TypeError, match="top_k"):
        MMSearchRetriever(index, top_k=3)


@pytest.mark.parametrize("query", [5, None, ["a dog"], b"a dog", QueryBundle(None)])
def test_llama_index_retriever_query_that_is_not_text_raises_error(index, query):
    retriever = MMSearchRetriever(index)
    with pytest.raises(InvalidQueryError, match="A query must be a string, not a "):
        retriever.retrieve(query)
    with pytest.raises(InvalidQueryError, match="A query must be a string, not a "):
        asyncio.run(retriever.aretrieve(query))


def test_llama_index_nodes_survive_json_round_trip(described_index):
    for found in MMSearchRetriever(described_index).retrieve("mill"):
        stored = json.loads(json.dumps(found.node.to_dict()))
        assert ImageNode.from_dict(stored) == found.node
        assert node_to_metadata_dict(found.node, flat_metadata=True)["document_id"] == "None"


def test_llama_index_node_of_added_picture_has_flat_metadata_and_no_path(photos, tmp_path):
    content = min((photos / "photos").glob("*.jpg")).read_bytes()
    with mmsearch.open_index(home=tmp_path) as index:
        index.add([content], ids=["sku-1"], metadata=[{"price": 12.5, "colours": ["red"]}])
        (found,) = MMSearchRetriever(index).retrieve("a photograph")
    node = found.node
    assert (node.image_path, node.metadata["key"]) == (None, "sku-1")
    assert json.loads(node.metadata["metadata"]) == {"price": 12.5, "colours": ["red"]}
    assert node_to_metadata_dict(node, flat_metadata=True)
    assert ImageNode.from_dict(json.loads(json.dumps(node.to_dict()))) == node


def test_llama_index_node_of_same_picture_is_equal_for_different_queries(described_index):
    retriever = MMSearchRetriever(described_index, mode="text")
    (mill,), (boat,) = retriever.retrieve("mill"), retriever.retrieve("boat")
    assert (mill.metadata["matched"], boat.metadata["matched"]) == (
        "The mill at Cley",
        "Seen from a boat",
    )
    assert (mill.node_id, mill.node.hash) == (boat.node_id, boat.node.hash)
    with mmsearch.open_index(home=described_index.folder.parent) as again:
        (same,) = MMSearchRetriever(again, mode="text").retrieve("mill")
    assert (same.node_id, same.node.hash) == (mill.node_id, mill.node.hash)


def test_llama_index_node_content_for_llm_holds_only_path_and_texts(described_index):
    first, second = (
        found.node for found in MMSearchRetriever(described_index).retrieve("mill at Cley")
    )
    assert first.text == "The mill at Cley\nSeen from a boat"
    assert first.get_content(MetadataMode.EMBED) == first.text
    assert first.get_content(MetadataMode.LLM).splitlines() == [
        f"path: {first.image_path}",
        "texts: The mill at Cley",
        "Seen from a boat",
        "Norfolk",
    ]
    assert second.get_content(MetadataMode.LLM) == f"path: {second.image_path}"
    assert second.get_content(MetadataMode.EMBED) == second.image_path


def test_llama_index_retriever_search_options_match_index_search(index):
    filters = mmsearch.parse_filters(orientation="portrait")
    expected = index.search("a dog", 50, filters=filters, mode="vector", min_score=0.1)
    retriever = MMSearchRetriever(index, k=50, filters=filters, mode="vector", min_score=0.1)
    assert ids(retriever.retrieve("a dog")) == hit_ids(expected)
    middle = sorted(hit.confidence for hit in expected)[len(expected) // 2]
    sure = MMSearchRetriever(index, k=50, filters=filters, min_confidence=middle).retrieve("a dog")
    assert 0 < len(sure) < len(expected)
    assert all(found.metadata["confidence"] >= middle for found in sure)


def test_llama_index_retriever_query_with_image_matches_index_search(index, picture):
    retriever = MMSearchRetriever(index, k=5)
    alone = retriever.retrieve(QueryBundle("", image_path=str(picture)))
    assert ids(alone) == hit_ids(index.similar(picture, 5))
    assert alone[0].node.image_path == str(picture)
    both = retriever.retrieve(QueryBundle("at night", image_path=str(picture)))
    assert ids(both) == hit_ids(index.search(mmsearch.parse_query("at night", images=[picture]), 5))
    assert ids(both) != ids(alone)


def test_llama_index_retriever_takes_right_and_wrong_hits(index):
    first = index.search("a dog", 20)
    expected = hit_ids(index.search("a dog", 20, like=first[2], unlike=first[0]))
    retriever = MMSearchRetriever(index, k=20, like=first[2].id, unlike=[first[0]])
    assert ids(retriever.retrieve("a dog")) == expected
    assert ids(asyncio.run(retriever.aretrieve("a dog"))) == expected
    with pytest.raises(UsageError, match="like must be ids of pictures or hits"):
        MMSearchRetriever(index, like="the first")


def test_llama_index_retriever_image_methods_search_by_text_or_picture(index, picture):
    retriever = MMSearchRetriever(index, k=5)
    both = QueryBundle("a dog", image_path=str(picture))
    words, alike = hit_ids(index.search("a dog", 5)), hit_ids(index.similar(picture, 5))
    assert ids(retriever.text_to_image_retrieve("a dog")) == words
    assert ids(retriever.text_to_image_retrieve(both)) == words
    assert ids(retriever.image_to_image_retrieve(str(picture))) == alike
    assert ids(retriever.image_to_image_retrieve(both)) == alike
    assert ids(asyncio.run(retriever.atext_to_image_retrieve(both))) == words
    assert ids(asyncio.run(retriever.aimage_to_image_retrieve(both))) == alike
    with pytest.raises(InvalidQueryError, match="The query has no picture"):
        retriever.image_to_image_retrieve(QueryBundle("a dog"))


def test_llama_index_retriever_over_index_refuses_image_url(index):
    asked = QueryBundle("a dog", image_path="https://photos.example/a.jpg")
    with pytest.raises(SourceError, match=r"https://photos\.example/a\.jpg cannot be fetched"):
        MMSearchRetriever(index).retrieve(asked)


def test_llama_index_retriever_parses_query_language_but_refuses_files(index, picture):
    retriever = MMSearchRetriever(index, k=5, literal=False)
    line = "dog - snow"
    assert ids(retriever.retrieve(line)) == hit_ids(index.search(line, 5, syntax=True))
    for bundle in (
        QueryBundle(f"a dog + {picture}"),
        QueryBundle(f"{picture} + {picture}", image_path=str(picture)),
        QueryBundle("a dog + image:https://photos.example/dog.jpg"),
        QueryBundle("image:https://photos.example/dog.jpg", image_path=str(picture)),
    ):
        with pytest.raises(InvalidQueryError, match="cannot name files or URLs"):
            retriever.retrieve(bundle)


@pytest.mark.parametrize(
    "text",
    [
        "- a red car",
        "/etc/passwd",
        "image:https://photos.example/dog.jpg",
        'a "dog" \\ 2:cat\n- snow',
        "dog",
    ],
)
def test_llama_index_retriever_literal_text_is_not_parsed_as_query(index, text):
    expected = index.search(mmsearch.Query((mmsearch.Term(text),)), 5)
    found = MMSearchRetriever(index, k=5).retrieve(text)
    assert [each.score for each in found] == pytest.approx([hit.score for hit in expected])
    assert ids(found) == hit_ids(expected)


def test_llama_index_custom_embedding_strings_replace_query_text(index):
    retriever = MMSearchRetriever(index, k=5)
    bundle = QueryBundle("?", custom_embedding_strs=["a dog", "snow", " "], embedding=[1.0])
    assert ids(retriever.retrieve(bundle)) == hit_ids(index.search("a dog + snow", 5, syntax=True))
    imagined = HyDEQueryTransform(llm=MockLLM(max_tokens=2), include_original=True)("a dog")
    line = " + ".join(f'"{text}"' for text in imagined.embedding_strs)
    assert len(imagined.embedding_strs) == 2
    assert ids(retriever.retrieve(imagined)) == hit_ids(index.search(line, 5, syntax=True))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_llama_index_fusion_merges_same_picture_from_several_retrievers(described_index, fusion):
    retrievers = [
        MMSearchRetriever(described_index, mode=mode) for mode in ("vector", "text", "hybrid")
    ]
    fused = QueryFusionRetriever(
        retrievers, llm=MockLLM(), mode=fusion, num_queries=1, similarity_top_k=10
    )
    expected = set(hit_ids(described_index.search("mill", mode="vector")))

    async def from_a_notebook():
        return fused.retrieve("mill")

    for nodes in (asyncio.run(from_a_notebook()), asyncio.run(fused.aretrieve("mill"))):
        assert len(nodes) == len({found.node.hash for found in nodes}) == 2
        assert set(ids(nodes)) == expected
        assert nodes[0].node.text.startswith("The mill at Cley")


def test_llama_index_fusion_sums_scores_of_several_queries_per_picture(described_index):
    class Asking(MockLLM):
        def complete(self, *args, **kwargs):
            return super().complete("a boat\n- Norfolk", formatted=True)

    retriever = MMSearchRetriever(described_index, mode="text", literal=True)
    fused = QueryFusionRetriever(
        [retriever], llm=Asking(), mode="reciprocal_rerank", num_queries=3, use_async=False
    )
    (found,) = fused.retrieve("mill")
    assert found.score == pytest.approx(3 / 60)


def test_llama_index_fusion_keeps_equal_ids_of_different_indexes_apart(described_index, index):
    retrievers = [MMSearchRetriever(each, k=2) for each in (described_index, index)]
    fused = QueryFusionRetriever(
        retrievers, llm=MockLLM(), num_queries=1, similarity_top_k=10, use_async=False
    )
    question = QueryBundle("", image_path=str(described_index.search("mill")[0].path))
    ours, theirs = (ids(each.retrieve(question)) for each in retrievers)
    assert set(ours) & set(theirs)
    nodes = fused.retrieve(question)
    assert len({found.node_id for found in nodes}) == len(nodes) == 4


def test_llama_index_fusion_merges_same_picture_of_copied_index(described_index, tmp_path):
    described_index.backup(tmp_path / "copy" / "other")
    with mmsearch.open_index("other", home=tmp_path / "copy") as other:
        fused = QueryFusionRetriever(
            [MMSearchRetriever(each) for each in (described_index, other)],
            llm=MockLLM(),
            num_queries=1,
            similarity_top_k=10,
            use_async=False,
        )
        assert len(fused.retrieve("mill")) == 2


def test_llama_index_query_engine_answers_from_retrieved_nodes(described_index):
    retriever = MMSearchRetriever(described_index, k=1)
    engine = RetrieverQueryEngine.from_args(
        retriever,
        llm=MockLLM(),
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.01)],
    )
    for answer in (engine.query("mill"), asyncio.run(engine.aquery("mill"))):
        # The mock model echoes its prompt.
        assert str(answer).count("The mill at Cley") == 1
        assert "size_bytes" not in str(answer)
        assert ids(answer.source_nodes) == hit_ids(described_index.search("mill", 1))


def test_llama_index_multimodal_engine_sends_picture_and_texts_to_model(described_index):
    model = MockLLMWithChatMemoryOfLastCall(is_chat_model=True)
    retriever = MMSearchRetriever(described_index, k=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=model, multimodal=True)
    asyncio.run(engine.aquery("mill"))
    blocks = [block for message in model.last_chat_messages for block in message.blocks]
    (shown,) = (block for block in blocks if block.block_type == "image")
    assert shown.resolve_image().read() == described_index.search("mill", 1)[0].path.read_bytes()
    texts = [block.text for block in blocks if block.block_type == "text"]
    assert sum("The mill at Cley" in text for text in texts) == 1


def test_llama_index_retriever_tool_returns_texts_of_hits(described_index):
    tool = RetrieverTool.from_defaults(MMSearchRetriever(described_index, k=1))
    assert "The mill at Cley" in tool.call("mill").content
    assert "The mill at Cley" in asyncio.run(tool.acall("mill")).content


def test_llama_index_retriever_emits_start_and_end_events(index):
    class Noting(BaseEventHandler):
        seen: ClassVar[list] = []

        def handle(self, event, **kwargs):
            self.seen.append(event)

    debug = LlamaDebugHandler(print_trace_on_end=False)
    retriever = MMSearchRetriever(index, k=2, callback_manager=CallbackManager([debug]))
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(noting := Noting())
    try:
        nodes = retriever.retrieve("a dog")
        asyncio.run(retriever.aretrieve("a dog"))
    finally:
        dispatcher.event_handlers.remove(noting)
    names = [event.class_name() for event in noting.seen]
    assert names == ["RetrievalStartEvent", "RetrievalEndEvent"] * 2
    assert noting.seen[1].nodes == nodes
    assert len(debug.get_event_pairs(CBEventType.RETRIEVE)) == 2


def test_llama_index_concurrent_searches_return_right_nodes_outside_event_loop(index, monkeypatch):
    asked = []
    search = index.search

    def watched(*args, **kwargs):
        asked.append(threading.current_thread())
        return search(*args, **kwargs)

    expected = [hit_ids(search(query, 3)) for query in QUERIES]
    monkeypatch.setattr(index, "search", watched)

    async def ask():
        retrievers = [MMSearchRetriever(index, k=3) for _ in QUERIES]
        pairs = 4 * list(zip(retrievers, QUERIES, strict=True))
        return await asyncio.gather(*(retriever.aretrieve(query) for retriever, query in pairs))

    assert [ids(found) for found in asyncio.run(ask())] == 4 * expected
    assert len(asked) == 4 * len(QUERIES)
    assert threading.current_thread() not in asked


def test_llama_index_retriever_over_client_matches_local_index(
    service, index, picture, socket_enabled
):
    portrait = mmsearch.parse_filters(orientation="portrait")
    with serve_in_thread(service, 0) as url, mmsearch.Client(url) as client:
        retriever = MMSearchRetriever(client, k=3, filters={"orientation": "portrait"})
        expected = hit_ids(index.search("a dog", 3, filters=portrait))
        nodes = retriever.retrieve("a dog")
        assert ids(nodes) == ids(asyncio.run(retriever.aretrieve("a dog"))) == expected
        node = nodes[0].node
        at = f"{url}/v1/indexes/default/pictures/{expected[0]}"
        assert (node.image_url, node.image_path) == (f"{at}/original", None)
        assert node.metadata["thumbnail"] == f"{at}/thumbnail"
        assert f"original: {at}/original" in node.get_content(MetadataMode.LLM)
        shown = httpx.get(node.image_url, trust_env=False)
        assert shown.headers["content-type"] == node.image_mimetype == "image/jpeg"

        literal = MMSearchRetriever(client, k=3)
        words = index.search(mmsearch.Query((mmsearch.Term("/etc - dog"),)), 3)
        assert ids(literal.retrieve("/etc - dog")) == hit_ids(words)
        with pytest.raises(InvalidQueryError, match="cannot name files"):
            MMSearchRetriever(client, literal=False).retrieve(str(picture))

        alike = retriever.retrieve(QueryBundle("a dog", image_path=str(picture)))
        known = client.similar(picture, 3, query="a dog", filters={"orientation": "portrait"})
        assert ids(alike) == hit_ids(known)
        assert ids(alike) != expected

        clicks = {"like": nodes[1].metadata["id"], "unlike": [expected[0]]}
        clicked = MMSearchRetriever(client, k=3, **clicks)
        for text in ("a dog", ""):
            found = clicked.retrieve(QueryBundle(text, image_path=str(picture)))
            assert ids(found) == hit_ids(client.similar(picture, 3, query=text, **clicks))
            assert expected[0] not in ids(found)


def test_llama_index_retriever_with_async_client_searches_in_event_loop(
    service, index, picture, monkeypatch
):
    async def ask():
        transport = httpx.ASGITransport(wrap_with_middleware(make_app(service)))
        async with mmsearch.AsyncClient("http://127.0.0.1", transport=transport) as client:
            retriever = MMSearchRetriever(client, k=3)
            with pytest.raises(UsageError, match=r"An AsyncClient cannot be .* Call aretrieve"):
                retriever.retrieve("a dog")
            fused = QueryFusionRetriever(
                [retriever, retriever], llm=MockLLM(), num_queries=1, similarity_top_k=10
            )
            return (
                await asyncio.gather(*map(retriever.aretrieve, QUERIES)),
                await retriever.aimage_to_image_retrieve(str(picture)),
                await fused.aretrieve("a dog"),
            )

    expected = [hit_ids(index.search(query, 3)) for query in QUERIES]
    monkeypatch.setattr(asyncio, "to_thread", None)
    found, alike, fused = asyncio.run(ask())
    assert [ids(nodes) for nodes in found] == expected
    assert alike[0].metadata["path"] == str(picture)
    assert ids(fused) == expected[0]


def test_llama_index_retriever_invalid_input_raises_matching_error(index, photos):
    retriever = MMSearchRetriever(index)
    with pytest.raises(InvalidQueryError, match="The query is empty"):
        retriever.retrieve("")
    with pytest.raises(SourceError, match=r"nowhere\.jpg cannot be used"):
        retriever.retrieve(QueryBundle("", image_path=str(photos / "nowhere.jpg")))
    with pytest.raises(InvalidQueryError, match="Unknown mode 'smell'"):
        MMSearchRetriever(index, mode="smell").retrieve("a dog")
    with pytest.raises(UsageError, match="cannot search a str"):
        MMSearchRetriever("holiday")
    with pytest.raises(UsageError, match="Unknown orientation 'upright'"):
        MMSearchRetriever(index, filters={"orientation": "upright"})


@pytest.mark.skipif(os.fsencode("\udcff") != b"\xff" or sys.platform == "darwin", reason="names")
def test_llama_index_node_with_undecodable_file_name_has_no_image_path(request, photos, tmp_path):
    folder, home = tmp_path / "photos", tmp_path / "home"
    folder.mkdir()
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(
        min((photos / "photos").iterdir()).read_bytes()
    )
    request.getfixturevalue("mmsearch")("index", folder, "--home", home, "--model", "starter")
    with mmsearch.open_index(home=home) as index:
        (found,) = MMSearchRetriever(index).retrieve("a dog")
    assert found.node.image_path is None
    assert found.node.text == found.metadata["path"] == f"{folder}/caf\\xe9.jpg"
    assert ImageNode.from_dict(json.loads(found.node.to_json())) == found.node


def test_llama_index_import_without_library_raises_missing_extra_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "mmsearch.integrations.llama_index")
    monkeypatch.setitem(sys.modules, "llama_index.core.base.base_retriever", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[llamaindex\]'"):
        import mmsearch.integrations.llama_index  # noqa: F401
