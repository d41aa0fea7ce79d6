"""``mmsearch optimize`` and searches in what it builds, by the installed command."""

import json

import numpy as np
import pytest

import mmsearch as library
from mmsearch.core.identity import Identity
from mmsearch.core.settings import load_settings
from mmsearch.core.types import FusionSpec
from mmsearch.core.vectors import as_unit_vectors
from mmsearch.factories import catalogs
from mmsearch.factories.plugins import make_encoder
from mmsearch.indexing.tuning_queries import encode_queries, synthetic_queries
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import store_vectors

pytestmark = pytest.mark.e2e

PICTURES = 12_000


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An index of vectors that lie near texts, as pictures do in a shared space."""
    home = tmp_path_factory.mktemp("many")
    encoder = make_encoder("starter", load_settings(), lambda line: None)
    texts = encode_queries(encoder, synthetic_queries(400))
    random = np.random.default_rng(1)
    meant = texts[random.integers(0, 400, PICTURES)] + texts[random.integers(0, 400, PICTURES)]
    noise = random.standard_normal(meant.shape) / np.sqrt(meant.shape[1])
    vectors = as_unit_vectors(meant + 0.7 * noise)
    layout = IndexLayout.for_name(home, "default")
    with catalogs.open_write(layout, 0, create=True) as catalog:
        catalog.set_identity(Identity(encoder.spec, FusionSpec(), "auto", ()))
        store_vectors(layout, catalog, encoder.spec, vectors[:7000])
        store_vectors(layout, catalog, encoder.spec, vectors[7000:], 7001, 2)
    return home


def found_by_all(home):
    """Return the ids of the ten hits of each query."""
    with library.open_index(home=home) as index:
        return {
            text: {hit.id for hit in index.search(text)} for text in synthetic_queries(540)[500:]
        }


def hits(mmsearch, home, *options):
    found = json.loads(mmsearch("query", "a red car", "--home", home, "--json", *options).out)
    return [(hit["id"], round(hit["score"], 3)) for hit in found["hits"]]


def test_optimize_picks_exact_or_approximate_search_by_targets(mmsearch, home):
    done = mmsearch("optimize", "--home", home)
    assert "12,000 pictures: vector index faiss_flat" in done.out
    assert "Search: exact search." in done.out
    exact, nearest = hits(mmsearch, home), found_by_all(home)
    assert len(exact) == 10

    done = mmsearch("optimize", "--home", home, "--latency", "0.0001ms", "--recall", "0.9")
    assert "vector index faiss_fastscan" in done.out
    assert "on 512 text queries, target 0.9." in done.out
    assert "exact search would take" in done.out
    found = hits(mmsearch, home)
    shares = [len(own & nearest[text]) / 10 for text, own in found_by_all(home).items()]
    assert 0.8 <= np.mean(shares) < 1
    assert hits(mmsearch, home, "-k", "5") == found[:5]
    assert "faiss_fastscan, 12,000 vectors, recall@10 " in mmsearch("status", "--home", home).out
    mmsearch("check", "--home", home)

    result = json.loads(mmsearch("optimize", "--home", home, "--json", "--memory", "100MB").out)
    assert result["vector_index"] == "faiss_flat"
    assert result["search"]["recall"] == 1.0
    assert hits(mmsearch, home) == exact


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--recall", "0"], "The recall must be above 0 and at most 1, got 0."),
        (["--recall", "1.5"], "The recall must be above 0 and at most 1, got 1.5."),
        (["--memory", "much"], "--memory must be a number with a unit, such as 4GB, got 'much'."),
        (["--latency", "20"], "--latency must be a number with a unit, such as 20ms, got '20'."),
        (["--memory", "0GB"], "The memory must be above 0, got 0."),
    ],
)
def test_optimize_invalid_option_value_exits_2(mmsearch, home, options, complaint):
    done = mmsearch("optimize", "--home", home, *options, code=2)
    assert complaint in " ".join(done.err.replace("│", " ").split())


def test_optimize_missing_index_prints_error(mmsearch, tmp_path):
    done = mmsearch("optimize", "--home", tmp_path, code=None)
    assert done.returncode in (1, 2)
    assert done.err.startswith("Error: There is no index named 'default'")


def test_index_unknown_vector_index_setting_stops_before_indexing(mmsearch, photos, tmp_path):
    wrong = {"MMSEARCH_VECTOR_INDEX": "nonsense"}
    done = mmsearch("index", photos, "--home", tmp_path, "--model", "starter", code=2, env=wrong)
    assert done.err.startswith("Error: There is no vector index named 'nonsense'. Known: auto, ")
    assert "holds no pictures yet" in mmsearch("query", "a dog", "--home", tmp_path).err


def test_reindex_unknown_vector_index_lists_known_names(mmsearch, photo_index):
    done = mmsearch("reindex", "--vector-index", "nope", "--home", photo_index, code=2)
    assert done.err == (
        "Error: There is no vector index named 'nope'. "
        "Known: auto, exact, faiss_fastscan, faiss_flat.\n"
    )
