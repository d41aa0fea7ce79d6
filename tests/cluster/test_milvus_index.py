"""An index whose vectors are on a Milvus server: commands, filters, a lost collection."""

import pytest

from mmsearch.factories import search_servers
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import KNOWN_SERVERS_VARIABLE
from tests.cluster import services
from tests.cluster.test_pgvector import pictures, run, use_server  # noqa: F401 - a fixture
from tests.integration.test_search_servers import Pair

pytestmark = services.MARKS
milvus = pytest.importorskip("mmsearch.vector_stores.milvus")


@pytest.fixture(scope="module")
def url(start_service):
    return start_service("milvus")["MILVUS_URL"]


@pytest.fixture
def known(url, monkeypatch):
    """Let the environment know the server, and return its URL without a path."""
    monkeypatch.setenv(KNOWN_SERVERS_VARIABLE, url)
    yield url
    search_servers.close_search_servers()


def test_index_on_milvus_answers_as_files_after_any_change(known, photos, tmp_path):
    pair = Pair(tmp_path, sorted((photos / "photos").glob("*.jpg")))
    use_server(pair.layout, f"{known}/compared")
    pair.compare_on("milvus")


def test_commands_index_search_and_repair(known, pictures, tmp_path):  # noqa: F811 - the fixture
    place = f"{known}/commands"
    use_server(IndexLayout(tmp_path / "default"), place)
    done = run(tmp_path, "index", str(pictures))
    assert done.returncode == 0, done.stderr
    for arguments, expected in (
        (("query", "a boat", "--tag", "sea"), ".jpg"),
        (("query", "a boat", "--person", 'x" or id >= 0 or label == "'), ""),
        (("status",), "milvus"),
        (("check",), ""),
    ):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout
        assert "Traceback" not in done.stderr
    # A collection that someone dropped is damage, which a repair mends.
    server = milvus.build(place, "default")
    for name in server.names():
        server.drop(name)
    done = run(tmp_path, "query", "a boat")
    assert done.returncode == 1
    assert "lacks a collection" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(tmp_path, "check").returncode != 0
    assert run(tmp_path, "repair").returncode == 0
    assert ".jpg" in run(tmp_path, "query", "a boat").stdout
    done = run(tmp_path, "query", "a boat", MMSEARCH_MILVUS_INDEX="none")
    assert (done.returncode, "MMSEARCH_MILVUS_INDEX" in done.stderr) == (2, True)
    server.close()
