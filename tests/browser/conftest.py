"""Fixtures of browser tests: a real browser and servers for it."""

import csv
import shutil
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mmsearch import api
from mmsearch.core.settings import Settings
from mmsearch.server.app import serve_in_thread
from mmsearch.server.config import ServerConfig
from mmsearch.server.state import ServerState
from tests.browser.page_helpers import CHROMIUM

WAIT_MS = 20_000


@pytest.fixture(scope="module")
def home(photo_index, tmp_path_factory):
    """Home of an index for these tests alone, which update it."""
    return Path(shutil.copytree(photo_index, tmp_path_factory.mktemp("browser") / "home"))


@pytest.fixture(scope="module")
def captioned(photos, cache, tmp_path_factory):
    """Home of an index of some photographs with captions."""
    folder = tmp_path_factory.mktemp("holidays", numbered=False)
    with (photos / "manifest.csv").open(encoding="utf-8") as file:
        for row in list(csv.DictReader(file))[::6]:
            name = f"{row['word'].replace(' ', '-')}-{Path(row['path']).stem[:4]}.jpg"
            shutil.copy(photos / row["path"], folder / name)
            sign = "🐻‍❄️ " if "bear" in row["word"] else ""
            text = f"{sign}{row['word']}. {row['description']}"
            (folder / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    home = tmp_path_factory.mktemp("captioned")
    settings = Settings(home=home, cache=cache, model="starter", workers=1)
    with api.open_index("default", settings=settings) as index:
        index.add_folder(folder)
    return home


@pytest.fixture(scope="module")
def serving(home, cache):
    """Context manager ``serving()`` that runs a server over the photographs; yields its URL."""

    @contextmanager
    def serve(home=home, address_policy=None, **config):
        settings = Settings(home=home, cache=cache, model="starter", workers=1)
        server_state = ServerState.create(
            settings, ServerConfig(**config), lambda: ["default"], address_policy=address_policy
        )
        with closing(server_state), serve_in_thread(server_state, 0) as url:
            yield url

    return serve


@pytest.fixture(scope="module")
def url(serving):
    with serving() as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # In containers, as root, Chromium runs only without its sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Function that opens pages; the fixture asserts that none has reported an error."""
    complaints, contexts = [], []

    def make(**options):
        size = {"width": 1280, "height": 800}
        context = browser.new_context(**({"viewport": size} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda said: complaints.append(said.text) if said.type != "log" else 0)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.complaints = complaints
        return page

    yield make
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(opened, url):
    page = opened()
    page.goto(url)
    return page
