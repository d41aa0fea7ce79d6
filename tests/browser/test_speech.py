"""Spoken searches on the page, with a recording in place of the microphone."""

import wave
from pathlib import Path

import numpy as np
import pytest

from mmsearch.server.listening import SpeechQueue
from tests.browser.conftest import WAIT_MS
from tests.browser.page_helpers import BROWSER_MARKS, CHROMIUM, assert_accessible, found

pytest.importorskip("faster_whisper", reason="the extra speech is not installed")

from mmsearch.core.speech import SAMPLE_RATE
from mmsearch.enrichers._sound import decode_sound

pytestmark = BROWSER_MARKS

PANDA = Path(__file__).parents[1] / "sounds" / "panda.ogg"
WORDS = "A black and white panda"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium whose microphone hears a recording, again and again with pauses."""
    from playwright.sync_api import sync_playwright

    path = tmp_path_factory.mktemp("microphone") / "said.wav"
    pause = np.zeros(3 * SAMPLE_RATE)
    samples = np.concatenate([pause[: SAMPLE_RATE // 4], decode_sound(PANDA.read_bytes(), 60)])
    with wave.open(str(path), "wb") as writer:
        writer.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        writer.writeframes((np.concatenate([samples, pause]) * 32767).astype("<i2").tobytes())
    devices = ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={path}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *devices]
        )
        yield browser
        browser.close()


def test_spoken_description_finds_pictures_and_can_be_corrected(opened, url):
    page = opened(permissions=["microphone"])
    page.goto(url)
    page.locator("#q").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "speak"
    page.keyboard.press("Enter")
    page.get_by_text("Listening. Describe a picture, then press Stop.").wait_for()
    assert_accessible(page)
    page.wait_for_timeout(2500)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text(f"Heard: {WORDS}").wait_for(timeout=3 * WAIT_MS)
    assert page.locator("#q").input_value() == WORDS
    assert page.evaluate("document.activeElement.id") == "q"
    spoken = found(page)
    assert_accessible(page)
    page.reload()
    assert found(page) == spoken
    page.locator("#q").press_sequentially("s")
    assert page.locator("#speech-said").text_content() == ""


def test_refused_microphone_is_explained(opened, url):
    page = opened()
    page.goto(url)
    page.get_by_role("button", name="Speak").click()
    page.get_by_text("The browser does not let this page use the microphone.").wait_for()
    assert page.get_by_role("button", name="Speak").is_enabled()


def test_server_without_the_extra_has_no_button_and_says_why(opened, serving, monkeypatch):
    monkeypatch.setattr(SpeechQueue, "is_available", False)
    page = opened()
    with serving() as url:
        page.goto(url)
        page.get_by_text("Spoken searches need the extra 'speech' on the server.").wait_for()
        assert not page.locator("#speak").is_visible()
        assert_accessible(page)
        page.close()
