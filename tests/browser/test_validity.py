"""The page is valid HTML and accessible in each of its states, according to external validators.

html-validate, pa11y (with axe and HTML CodeSniffer) and redocly come from npm.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from mmsearch.server.app import make_app
from tests.browser.page_helpers import CHROMIUM

HERE = Path(__file__).parent
TOOLS = HERE / "node_modules" / ".bin"
TOKEN = "a token of these tests"  # noqa: S105

pytestmark = [
    pytest.mark.alone,
    pytest.mark.browser,
    pytest.mark.enable_socket,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: scripts/test --browser installs it"),
    pytest.mark.skipif(
        shutil.which("node") is None or not TOOLS.exists(),
        reason="no validators from npm: scripts/test --browser installs them where npm is",
    ),
]

FOUND = "wait for element #hits img to be visible"
HAS_PROBLEM = "wait for element #problem-text to be visible"
SEARCHES = {
    "start": ("/", ["wait for element #start-hint to be visible"]),
    "results": ("/?q=a+windmill", [FOUND]),
    "details": (
        "/?q=a+windmill",
        [FOUND, "click element #hits a", "wait for element #band to be visible"],
    ),
    "details of a picture alone": ("/?picture=1", ["wait for element #close to be visible"]),
    "unlikely": ("/?q=the+square+root+of+minus+one", ["wait for element #nothing to be visible"]),
    "none passes": (
        "/?q=a+dog&path=nowhere",
        ["wait for element #hits img to be removed", "wait for element #count to be visible"],
    ),
    "problem": ("/?q=a+dog&after=soon", [HAS_PROBLEM]),
    "like a picture": ("/?like=1&not=people", [FOUND, "wait for element #given to be visible"]),
    "upkeep": ("/?q=a+dog", ["click element #upkeep summary", FOUND]),
}
ENTRANCE = {
    "token": ("/", ["wait for element #token to be visible"]),
    "wrong token": (
        "/",
        [
            "set field #token to wrong",
            "click element form button",
            "wait for element #problem to be visible",
        ],
    ),
}
# A native list of choices cannot hold suggestions for a search field.
OF_PAGES = {"prefer-native-element": ["error", {"exclude": ["listbox"]}]}
# Rules for documents that a browser has serialized, with styles that scripts have set.
OF_BROWSERS = OF_PAGES | {"attribute-boolean-style": "off", "attribute-empty-style": "off"}
OF_BROWSERS |= {"no-inline-style": "off"}
PARTLY_COVERED = ("upkeep", "details")
"""States with an open menu, and with a list that is cut where it scrolls: axe cannot measure the
contrast of what lies beneath or is cut, and requests a review."""


def html_errors(folder, documents, rules):
    """Return the errors that html-validate reports, by document name."""
    folder.mkdir(exist_ok=True)
    config = folder / "rules.json"
    config.write_text(
        json.dumps({"root": True, "extends": ["html-validate:recommended"], "rules": rules})
    )
    files = []
    for name, document in documents.items():
        file = folder / f"{name.replace(' ', '-')}.html"
        file.write_text(document, encoding="utf-8")
        files.append(file)
    done = subprocess.run(
        [TOOLS / "html-validate", "--config", config, "--formatter", "json", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return {
        Path(each["filePath"]).stem: [
            (found["ruleId"], found["line"], found["message"]) for found in each["messages"]
        ]
        for each in json.loads(done.stdout)
        if each["messages"]
    }


def seen(pages):
    """Return the HTML of pages after their actions; assert that pa11y finds no issue."""
    done = subprocess.run(
        ["node", "pa11y.mjs"],
        cwd=HERE,
        input=json.dumps(list(pages.values())),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"CHROMIUM": CHROMIUM},
    )
    assert done.returncode == 0, done.stderr
    answers = dict(zip(pages, json.loads(done.stdout), strict=True))
    issues = {
        (name, each["code"], each["selector"]): each["message"]
        for name, answer in answers.items()
        for each in answer["issues"]
        if not (name in PARTLY_COVERED and each["runnerExtras"].get("needsFurtherReview"))
    }
    assert issues == {}
    return {name: answer["html"] for name, answer in answers.items()}


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 390)])
def test_page_states_in_browser_are_valid_and_accessible(serving, tmp_path, dark, width):
    with serving() as url, serving(token=TOKEN) as closed:
        pages = {
            name: {"url": at + path, "actions": actions, "dark": dark, "width": width}
            for at, states in ((url, SEARCHES), (closed, ENTRANCE))
            for name, (path, actions) in states.items()
        }
        documents = seen(pages)
    assert html_errors(tmp_path / "html", documents, OF_BROWSERS) == {}
    # The pages are in the states that their names say.
    assert re.search(r'<dialog id="details"[^>]* open', documents["details"])
    assert documents["results"].count("<li data-id") == 40
    assert documents["none passes"].count("<li data-id") == 0
    assert "No picture passes" in documents["none passes"]
    assert 'id="problem"' in documents["wrong token"]


def test_server_pages_are_valid_html(serving, tmp_path):
    paths = {"start": "/", "results": "/?q=a+windmill", "problem": "/?q=a+dog&after=soon"}
    with serving() as url, serving(token=TOKEN) as closed:
        documents = {name: httpx.get(url + path).text for name, path in paths.items()}
        documents["token"] = httpx.get(closed).text
        documents["wrong"] = httpx.post(f"{closed}/session", data={"token": "wrong"}).text
    assert html_errors(tmp_path / "html", documents, OF_PAGES) == {}
    for name, document in documents.items():
        assert document.count('<meta name="description" content="Find pictures') == 1, name


def test_contact_sheets_are_valid_and_accessible(mmsearch, photo_index, tmp_path):
    documents, pages = {}, {}
    for name, query in {"one": "a windmill", "hostile": "\"a <b> & 'c'\""}.items():
        sheet = tmp_path / f"{name}.html"
        mmsearch("query", query, "-k", "6", "--sheet", sheet, "--home", photo_index)
        documents[name] = sheet.read_text(encoding="utf-8")
        pages[name] = {"url": sheet.as_uri(), "actions": [], "dark": False, "width": 1280}
    # A sheet is one file that contains its styles.
    assert html_errors(tmp_path / "html", documents, {}) == {}
    seen(pages)


def test_validators_report_faulty_page(tmp_path):
    faulty = '<!DOCTYPE html><html lang="en"><head><title>a</title></head><body><img></body></html>'
    assert {rule for rule, *_ in html_errors(tmp_path / "html", {"a": faulty}, {})["a"]} == {
        "element-required-attributes",
        "wcag/h37",
    }
    page = tmp_path / "a.html"
    page.write_text(faulty)
    with pytest.raises(AssertionError, match="H37"):
        seen({"a": {"url": page.as_uri(), "actions": [], "dark": False, "width": 1280}})


def test_redocly_lint_reports_no_problem_in_openapi_document(tmp_path):
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(make_app(None).openapi()))
    done = subprocess.run(
        [TOOLS / "redocly", "lint", "--format", "json", document],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
    )
    report = json.loads(done.stdout)
    assert (done.returncode, report["totals"]["errors"], report["problems"]) == (0, 0, [])
