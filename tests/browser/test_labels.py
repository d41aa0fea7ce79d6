"""Labels of hits, the divider above weaker matches, and notices, whatever a model says."""

import json
import re

import pytest

from tests.browser.page_helpers import (
    BROWSER_MARKS,
    assert_accessible,
    found,
    hits,
)

pytestmark = BROWSER_MARKS

LANGUAGE = {"code": "language", "text": "The model reads English.", "suggestion": None}
SPELLING = {"code": "spelling", "text": "Did you mean 'a dog'?", "suggestion": "a dog"}
GUESSES = {"code": "best_guesses", "text": "Best guesses: <b>gnu</b>.", "suggestion": None}
KINDS = {"l": ("likely", 0.834), "p": ("possible", 0.4), ".": ("unlikely", 0.01)}


@pytest.fixture
def answering(opened, url):
    """Function that opens the page with labels in place of those of the model.

    ``kinds`` has a letter of `KINDS` for each hit; hits beyond it are unlikely.
    """

    pages = []

    def make(kinds, *, notices=(), calibrated=True, path="/?q=a+windmill", **options):
        def answer(route):
            result = json.loads((response := route.fetch()).text())
            for hit in result["hits"]:
                letter = kinds[hit["rank"] - 1] if hit["rank"] <= len(kinds) else "."
                hit["band"], hit["confidence"] = KINDS[letter]
            match = "likely" if "l" in kinds else "possible" if "p" in kinds else "unlikely"
            own = notices if "q=a+windmill" in route.request.url else ()
            result |= {"match": match, "calibrated": calibrated, "notices": list(own)}
            route.fulfill(response=response, json=result)

        page = opened(**options)
        pages.append(page)
        page.route(re.compile("/search[?]"), answer)
        # Without an answer in the page, its scripts ask for one.
        page.route(re.compile("/[?]"), strip_answer)
        page.goto(url + path)
        found(page)
        return page

    yield make
    for page in pages:
        page.unroute_all(behavior="ignoreErrors")


def strip_answer(route):
    response = route.fetch()
    body = re.sub(r'(id="answer">).*?(</script>)', r"\1null\2", response.text(), flags=re.DOTALL)
    body = re.sub(r'(<p id="count"[^>]*>).*?(</p>)', r"\1\2", body, flags=re.DOTALL)
    route.fulfill(response=response, body=body)


def labels(page):
    return page.locator("#hits .label").all_text_contents()


def hits_above_divider(page):
    """Return the number of hits above the divider; None without one."""
    return page.evaluate(
        """() => {
            const items = [...document.querySelectorAll("#hits > li")];
            const at = items.findIndex((item) => item.matches(".divider"));
            return at < 0 ? null : at;
        }"""
    )


def test_cards_have_words_and_divider_precedes_weaker_matches(answering):
    page = answering("llp")
    assert labels(page) == ["likely 83%", "likely 83%", "possible 40%"]
    assert hits_above_divider(page) == 3
    assert page.get_by_role("heading", name="Weaker matches").is_visible()
    assert page.locator("#nothing").is_hidden()
    assert_accessible(page)
    # A heading is no picture: the keyboard and clicks pass over it.
    page.get_by_role("heading", name="Weaker matches").click()
    assert page.get_by_role("dialog").is_hidden()
    page.locator("#hits a").nth(2).focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('li').dataset.id") == hits(page)[3]
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.closest('li').dataset.id") in hits(page)[:3]


def test_divider_follows_last_label_also_when_more_pictures_are_loaded(answering):
    page = answering("lp" + "." * 43 + "p")
    assert hits_above_divider(page) == 2
    page.locator("#hits > li").last.scroll_into_view_if_needed()
    page.mouse.wheel(0, 3000)
    page.wait_for_function("() => document.querySelectorAll('#hits > li[data-id]').length >= 80")
    assert hits_above_divider(page) == 46
    assert page.locator("#hits .divider").count() == 1
    assert labels(page) == ["likely 83%", "possible 40%", "possible 40%"]


def test_other_order_keeps_labels_and_has_no_divider(answering):
    # Few enough pictures that all labels are on the first page.
    page = answering("llp", path="/?q=a+windmill&sort=name&path=photos/[0-3]*")
    assert hits_above_divider(page) is None
    assert sorted(labels(page)) == ["likely 83%", "likely 83%", "possible 40%"]


@pytest.mark.parametrize("kinds", ["llp", ""])
def test_model_without_calibration_gets_no_labels_divider_or_percentage(answering, kinds):
    page = answering(kinds, calibrated=False)
    assert labels(page) == []
    assert hits_above_divider(page) is None
    assert page.locator("#nothing").is_hidden()
    page.locator("#hits a").first.click()
    text = page.get_by_role("dialog").inner_text()
    assert "because the model is not calibrated" in text
    assert "%" not in text.split("Picture\n")[0]


@pytest.mark.parametrize(
    ("at", "says", "percent"),
    [
        (0, "Likely what you asked for", "83 %"),
        (1, "Possibly what you asked for", "40 %"),
        (2, "One of the closest results, but a weak match", None),
    ],
)
def test_details_say_in_words_how_sure_it_is(answering, at, says, percent):
    page = answering("lp")
    page.locator("#hits a").nth(at).click()
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert dialog.locator("#band").text_content() == says
    shown = re.search(r"Confidence\s+(\d+ %)", dialog.inner_text())
    assert (shown and shown[1]) == percent
    assert "Visual score" in dialog.inner_text()
    assert_accessible(page)


def test_best_guesses_head_the_hits_as_text_without_markup(answering):
    page = answering("", notices=[LANGUAGE, GUESSES])
    assert page.locator("#nothing").text_content() == GUESSES["text"]
    assert page.locator("#notices").inner_text() == LANGUAGE["text"]
    assert page.locator("#nothing b").count() == 0
    assert hits_above_divider(page) is None
    assert_accessible(page)
    page.locator("#q").fill("")
    page.locator("#notices").get_by_text("The model reads").wait_for(state="detached")
    assert page.locator("#nothing").is_hidden()


def test_no_good_match_is_said_where_there_is_no_notice(answering):
    assert answering("").locator("#nothing").text_content() == "No good matches. Closest results:"


def test_spelling_notice_runs_its_suggestion_with_the_same_filters(answering):
    page = answering("lp", notices=[SPELLING], path="/?q=a+windmill&orientation=landscape")
    link = page.get_by_role("link", name="Did you mean 'a dog'?")
    assert link.get_attribute("href").endswith("/?q=a+dog&orientation=landscape")
    with page.expect_response(lambda got: "q=a+dog" in got.url):
        link.click()
    found(page)
    assert page.locator("#q").input_value() == "a dog"
    assert page.url.endswith("/?q=a+dog&orientation=landscape")
    assert page.title() == "a dog - mmsearch"
    assert page.locator("#notices").inner_text() == ""
    page.go_back()
    link.wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_fit_narrow_phone_and_are_accessible(answering, scheme):
    page = answering(
        "llpp",
        notices=[LANGUAGE, SPELLING],
        viewport={"width": 320, "height": 640},
        color_scheme=scheme,
        is_mobile=True,
        has_touch=True,
    )
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert_accessible(page)
    for box in page.eval_on_selector_all(
        "#hits .label",
        """all => all.map((label) => {
            const own = label.getBoundingClientRect();
            const card = label.parentElement.getBoundingClientRect();
            return [own.left >= card.left, own.right <= card.right, own.bottom <= card.bottom];
        })""",
    ):
        assert box == [True, True, True]
