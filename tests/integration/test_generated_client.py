"""A client that openapi-python-client generates from the OpenAPI document can search."""

import importlib
import json
import shutil
import subprocess
import sys
from contextlib import closing
from io import BytesIO
from pathlib import Path

import pytest

from mmsearch import api
from mmsearch.core.settings import Settings
from mmsearch.server.app import make_app, serve_in_thread
from mmsearch.server.config import ServerConfig
from mmsearch.server.state import ServerState

GENERATOR = shutil.which(
    "openapi-python-client", path=Path(sys.prefix) / "generator" / "bin"
) or shutil.which("openapi-python-client")
TOKEN = "of-this-test"  # noqa: S105

pytestmark = [
    pytest.mark.enable_socket,
    pytest.mark.skipif(
        GENERATOR is None, reason="no openapi-python-client: scripts/test installs it"
    ),
]


@pytest.fixture
def generated(tmp_path, monkeypatch):
    """Importer of modules of a freshly generated client."""
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(make_app(None).openapi()))
    subprocess.run(
        [GENERATOR, "generate", "--path", document, "--output-path", tmp_path / "client"],
        check=True,
        capture_output=True,
    )
    monkeypatch.syspath_prepend(tmp_path / "client")
    yield lambda name: importlib.import_module(f"mmsearch_client.{name}")
    for name in [name for name in sys.modules if name.split(".")[0] == "mmsearch_client"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def url(photo_index, cache):
    settings = Settings(home=photo_index, cache=cache)
    server_state = ServerState.create(settings, ServerConfig(token=TOKEN), lambda: ["default"])
    with closing(server_state), serve_in_thread(server_state, 0) as url:
        yield url


def test_generated_openapi_client_search_matches_local_index(
    generated, url, photos, photo_index, cache
):
    picture = min((photos / "photos").glob("*.jpg"))
    models, file = generated("models"), generated("types").File
    client = generated("client").AuthenticatedClient(base_url=url, token=TOKEN)
    with client:
        by_picture = generated("api.search.search_by_picture")
        for name in (picture.name, None):
            form = models.BodySearchByPicture(
                picture=file(BytesIO(picture.read_bytes()), name),
                query="at night",
                filters='{"where": "width > height / 2"}',
                limit=3,
            )
            answer = by_picture.sync(name="default", client=client, body=form)
            assert isinstance(answer, models.SearchPage)
            assert len(answer.hits) == 3
        with api.open_index("default", settings=Settings(home=photo_index, cache=cache)) as index:
            expected = index.search("a windmill", k=3)
        body = models.SearchBody(query="a windmill", limit=3)
        answer = generated("api.search.search").sync(name="default", client=client, body=body)
        assert [hit.id for hit in answer.hits] == [hit.id for hit in expected]
        problem = by_picture.sync(
            name="none", client=client, body=models.BodySearchByPicture(picture=form.picture)
        )
        assert problem.status == 404
        assert problem.detail == "There is no index 'none' here. GET /v1/indexes lists them."
    open_client = generated("client").Client(base_url=url)
    with open_client:
        assert generated("api.operation.healthz").sync(client=open_client)["ok"] is True
