"""An index whose vectors are in PostgreSQL: commands, errors, killed servers and runs."""

import os
import signal
import subprocess
import sys
import time
from unittest.mock import patch

import pytest

import mmsearch
from mmsearch.core.errors import ServerError, UnauthorizedError, UnreachableError
from mmsearch.factories import search_servers
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.places import KNOWN_SERVERS_VARIABLE
from mmsearch.vector_stores.pgvector import build
from tests.cluster import services
from tests.integration.test_facets import PICTURES, write_picture
from tests.integration.test_search_servers import Pair

pytestmark = services.MARKS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("postgres_vector")


@pytest.fixture(scope="module")
def postgres(folder):
    with services.service("postgres_vector", folder) as state:
        yield state


@pytest.fixture
def known(postgres, monkeypatch):
    """Let the environment know the server, and return its URL."""
    url = postgres["POSTGRES_URL"]
    monkeypatch.setenv(KNOWN_SERVERS_VARIABLE, url)
    monkeypatch.setenv("MMSEARCH_SEARCH_PASSWORD", postgres["POSTGRES_PASSWORD"])
    yield url
    search_servers.close_search_servers()


def use_server(layout, url):
    layout.folder.mkdir(parents=True)
    layout.places.write_text(f'search = "{url}"\n')


def run(home, *arguments, **environment):
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "mmsearch", *arguments],
        env=os.environ | {"MMSEARCH_HOME": str(home), "NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def pictures(photos, tmp_path):
    folder = tmp_path / "pictures"
    sources = sorted((photos / "photos").glob("*.jpg"))
    for number, ((place, *known), source) in enumerate(zip(PICTURES, sources, strict=False)):
        write_picture(source, folder / place / f"{number}.jpg", *known)
    return folder


def test_index_in_postgresql_answers_as_files_after_any_change(known, photos, tmp_path):
    pair = Pair(tmp_path, sorted((photos / "photos").glob("*.jpg")))
    use_server(pair.layout, f"{known}?schema=compared")
    pair.compare_on("pgvector")


def test_commands_index_search_and_check(known, pictures, tmp_path):
    use_server(IndexLayout(tmp_path / "default"), f"{known}?schema=commands")
    done = run(tmp_path, "index", str(pictures))
    assert done.returncode == 0, done.stderr
    for arguments, expected in (
        (("query", "a boat", "--tag", "sea"), ".jpg"),
        (("status",), "pgvector"),
        (("init", "old", "--search", f"{known}?schema=old"), "Install 0.8.7 or newer"),
    ):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expected in done.stdout
    # A collection that someone dropped is damage, which a repair mends.
    server = build(f"{known}?schema=commands", "default")
    for name in server.names():
        server.drop(name)
    done = run(tmp_path, "query", "a boat")
    assert done.returncode == 1
    assert "lacks the collection" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(tmp_path, "check").returncode != 0
    assert run(tmp_path, "repair").returncode == 0
    assert ".jpg" in run(tmp_path, "query", "a boat").stdout
    server.close()


@pytest.mark.parametrize("fault", ["file_renamed", "transaction_begun:9"])
def test_killed_run_leaves_the_former_generation_and_the_next_finishes(
    known, pictures, tmp_path, fault
):
    url = f"{known}?schema=killed_{fault[:8]}"
    use_server(IndexLayout(tmp_path / "default"), url)
    assert run(tmp_path, "index", str(pictures)).returncode == 0
    server = build(url, "default")
    (first,) = server.names()
    killed = run(tmp_path, "reindex", "--fusion", "weighted", MMSEARCH_FAULT=fault)
    if ":" not in fault:
        assert killed.returncode == -signal.SIGKILL
        assert first in server.names()
        assert ".jpg" in run(tmp_path, "query", "a boat").stdout
    assert run(tmp_path, "reindex", "--fusion", "weighted").returncode == 0
    assert ".jpg" in run(tmp_path, "query", "a boat", "--tag", "sea").stdout
    assert run(tmp_path, "check").returncode == 0
    server.close()


def test_errors_name_the_server_and_the_next_step(known, pictures, tmp_path):
    use_server(IndexLayout(tmp_path / "default"), f"{known}?schema=errors")
    assert run(tmp_path, "index", str(pictures)).returncode == 0
    done = run(tmp_path, "query", "a boat", MMSEARCH_SEARCH_PASSWORD="wrong")  # noqa: S106
    assert (done.returncode, "refuses the user" in done.stderr) == (1, True)
    done = run(tmp_path, "query", "a boat", **{KNOWN_SERVERS_VARIABLE: ""})
    assert "not a known server" in done.stderr
    (tmp_path / "default" / "index.toml").unlink()
    done = run(tmp_path, "query", "a boat")
    assert (done.returncode, "index.toml" in done.stderr) == (1, True)


def test_wrong_password_and_missing_server_are_told_apart(known, monkeypatch):
    monkeypatch.setenv("MMSEARCH_SEARCH_PASSWORD", "wrong")
    with pytest.raises(UnauthorizedError):
        build(known, "photos").check()
    with pytest.raises(UnreachableError):
        build("postgresql+psycopg://mmsearch@127.0.0.1:1/postgres", "photos").check()


def test_user_without_rights_and_database_without_extension(known, postgres):
    import psycopg

    address = known.removeprefix("postgresql+psycopg://mmsearch@").removesuffix("/postgres")
    admin = f"postgresql://mmsearch:{postgres['POSTGRES_PASSWORD']}@{address}/postgres"
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE USER guest PASSWORD 'guest'")
        connection.execute("CREATE DATABASE bare")
    with patch.dict(os.environ, MMSEARCH_SEARCH_PASSWORD="guest"):  # noqa: S106
        for database in ("postgres", "bare"):
            server = build(f"postgresql+psycopg://guest@{address}/{database}", "guests")
            with pytest.raises(ServerError) as caught:
                server.check()
            assert caught.value.hint
            server.close()


def wait_for_refusal(search):
    """Search until the server does not answer: its processes end a moment after the first one."""
    end = time.monotonic() + 20
    while True:
        try:
            search()
        except UnreachableError as error:
            assert "does not answer" in str(error)  # noqa: PT017 - it comes at some time
            return
        assert time.monotonic() < end
        time.sleep(0.02)


def test_open_index_goes_on_after_the_server_was_killed(
    known, postgres, folder, pictures, tmp_path
):
    use_server(IndexLayout(tmp_path / "killed"), f"{known}?schema=restarted")
    with mmsearch.open_index("killed", home=tmp_path) as index:
        index.add_folder(pictures)
        hits = [hit.id for hit in index.search("a boat")]
        state = postgres
        for _ in range(2):
            os.kill(int(state["POSTGRES_PID"]), signal.SIGKILL)
            try:
                wait_for_refusal(lambda: index.search("a boat"))
            finally:
                state = services.call("postgres_vector", "start", folder)
            assert [hit.id for hit in index.search("a boat")] == hits
