"""Helpers of browser tests that read, operate and check the page."""

import io
import os
import shutil
from importlib import resources, util
from pathlib import Path

import pytest
from PIL import Image

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)


def missing_reason():
    if CHROMIUM is None:
        return "no Chromium: scripts/test --browser installs it, or $CHROMIUM names it"
    for package in ("playwright", "axe_playwright_python"):
        if util.find_spec(package) is None:
            return f"{package} is not installed: scripts/test --browser installs it"
    return None


BROWSER_MARKS = [
    pytest.mark.alone,
    pytest.mark.browser,
    pytest.mark.enable_socket,
    pytest.mark.skipif(missing_reason() is not None, reason=str(missing_reason())),
    # Playwright's event loop is closed after the sockets of its pipe.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SCREENSHOTS = os.environ.get("MMSEARCH_SCREENSHOTS_TO")


def hits(page):
    return page.eval_on_selector_all(
        "#hits > li[data-id]", "all => all.map(each => each.dataset.id)"
    )


def found(page, says=r"\d+ of \d+ pictures"):
    """Wait for an answer; return the ids of its hits."""
    page.wait_for_function(
        """says => {
            const count = document.getElementById("count");
            return new RegExp(says).test(count.textContent) && !count.classList.contains("waiting");
        }""",
        arg=says,
    )
    return hits(page)


def type_query(page, text):
    with page.expect_response(lambda response: "/search?" in response.url and response.ok):
        page.locator("#q").press_sequentially(text)
        page.wait_for_timeout(250)
    return found(page)


def load_words(photos):
    lines = (photos / "manifest.csv").read_text(encoding="utf-8").splitlines()
    return {line.split(",")[0]: line.split(",")[1] for line in lines}


def first_caption(page):
    return page.locator("#hits .caption").first.text_content().split(" · ")[0]


def wait_for_pictures(page):
    page.wait_for_function(
        """() => [...document.querySelectorAll("#hits img, #details[open] img")]
            .filter(each => each.getBoundingClientRect().top < innerHeight)
            .every(each => each.complete && each.naturalWidth)"""
    )


def save_screenshot(page, name):
    """Save a screenshot for the documents if $MMSEARCH_SCREENSHOTS_TO is set."""
    if SCREENSHOTS is not None:
        wait_for_pictures(page)
        page.wait_for_timeout(300)
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            palette_shot = shot.convert("RGB").quantize(256, kmeans=2)
        palette_shot.save(Path(SCREENSHOTS) / f"{name}.png", optimize=True)


def assert_accessible(page):
    script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    # Playwright evaluates the script, because the page's policy blocks script tags.
    page.evaluate(script + "; undefined")
    report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    violations = [
        (violation["id"], violation["help"], [node["html"][:200] for node in violation["nodes"]])
        for violation in report["violations"]
    ]
    assert violations == []
