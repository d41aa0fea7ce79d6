"""The LlamaIndex vector store keeps picture nodes and finds them by text, ids and metadata."""

import base64
import io

import pytest
from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.schema import ImageNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQuery
from PIL import Image

import mmsearch
from mmsearch.core.errors import UsageError
from mmsearch.integrations.llama_index import MMSearchVectorStore

COLOURS = {"red": 5, "green": 50, "blue": 500}


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (48, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


def node(colour, document="doc"):
    return ImageNode(
        id_=f"node-{colour}",
        text=f"{colour} paint",
        image=base64.b64encode(png(colour)).decode(),
        metadata={"price": COLOURS[colour], "tags": ["paint", colour]},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)},
    )


@pytest.fixture
def store(tmp_path, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    with mmsearch.open_index(home=tmp_path / "home", model="starter") as index:
        yield MMSearchVectorStore(index, keep_originals=True)


@pytest.fixture
def filled(store):
    nodes = [node("red", "one"), node("green", "two"), node("blue", "two")]
    assert store.add(nodes) == ["node-red", "node-green", "node-blue"]
    return store


def filters(*parts, condition="and"):
    return MetadataFilters.from_dicts(
        [{"key": key, "operator": operator, "value": value} for key, operator, value in parts],
        condition=condition,
    )


def test_nodes_come_back_as_they_were_added(filled):
    result = filled.query(VectorStoreQuery(query_str="green paint", similarity_top_k=1))
    (found,) = result.nodes
    assert (result.ids, found.node_id, found.text) == (["node-green"], "node-green", "green paint")
    assert found.metadata == {"price": 50, "tags": ["paint", "green"]}
    assert (found.ref_doc_id, base64.b64decode(found.image)) == ("two", png("green"))
    (hit,) = filled.client.search("green paint", k=1)
    assert result.similarities == [hit.score]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (filters(("price", "==", 5)), "red"),
        (filters(("price", "!=", 5)), "green blue"),
        (filters(("price", ">", 5), ("price", "<=", 50)), "green"),
        (filters(("price", "<", 50), ("price", ">", 50), condition="or"), "red blue"),
        (filters(("price", "==", 5), condition="not"), "green blue"),
        (filters(("price", "in", [5, 500])), "red blue"),
        (filters(("price", "nin", [5, 500])), "green"),
        (filters(("tags", "contains", "red")), "red"),
        (filters(("tags", "any", ["red", "blue"])), "red blue"),
        (filters(("tags", "all", ["paint", "blue"])), "blue"),
        (filters(("none", "is_empty", None)), " ".join(COLOURS)),
        (filters(("none", "!=", 3)), " ".join(COLOURS)),
        (filters(("price", "in", [])), ""),
        (
            MetadataFilters(
                filters=[filters(("price", "==", 5)), filters(("tags", "any", ["blue"]))]
            ),
            "",
        ),
    ],
)
def test_metadata_filters_are_exact_in_queries_and_lists(filled, wanted, names):
    expected = {f"node-{name}" for name in names.split()}
    assert {found.node_id for found in filled.get_nodes(filters=wanted)} == expected
    query = VectorStoreQuery(query_str="paint", similarity_top_k=9, filters=wanted)
    assert set(filled.query(query).ids) == expected


def test_nodes_are_found_and_deleted_by_ids_documents_and_filters(filled):
    query = VectorStoreQuery(query_str="paint", similarity_top_k=9, doc_ids=["two"])
    assert set(filled.query(query).ids) == {"node-green", "node-blue"}
    assert [found.node_id for found in filled.get_nodes(["node-red", "none"])] == ["node-red"]
    filled.delete("one")
    assert len(filled.get_nodes()) == 2
    filled.delete_nodes(filters=filters(("price", "==", 50)))
    filled.delete_nodes(["none"])
    assert [found.node_id for found in filled.get_nodes()] == ["node-blue"]
    filled.client.add([png("white")], ids=["other"])
    filled.clear()
    assert (filled.get_nodes(), len(filled.client)) == ([], 1)


def test_vector_store_index_retrieves_pictures(store):
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex(
        [node("red"), node("blue")], storage_context=context, embed_model=MockEmbedding(4)
    )
    (found,) = index.as_retriever(similarity_top_k=1).retrieve("blue paint")
    assert found.node.node_id == "node-blue"
    index.delete_ref_doc("doc")
    assert store.get_nodes() == []


def test_store_refuses_what_it_cannot_keep_or_search(store):
    assert store.query(VectorStoreQuery(query_str="x")).nodes == []
    with pytest.raises(UsageError, match="has no picture"):
        store.add([TextNode(text="a poem")])
    with pytest.raises(UsageError, match="The query has no text"):
        store.query(VectorStoreQuery(query_embedding=[0.1]))
    with pytest.raises(UsageError, match="'mmr' is not supported"):
        store.query(VectorStoreQuery(query_str="x", mode="mmr"))
    with pytest.raises(UsageError, match="'text_match' is not supported"):
        store.get_nodes(filters=filters(("a", "text_match", "b")))
    with pytest.raises(UsageError, match="needs node_ids or filters"):
        store.delete_nodes()
    with pytest.raises(UsageError, match="cannot write to a str"):
        MMSearchVectorStore("x")
