"""Access to the page: sign-in, accessibility, phones, no scripts, unreachable server."""

import re

import pytest

from tests.browser.page_helpers import (
    BROWSER_MARKS,
    assert_accessible,
    found,
    save_screenshot,
    wait_for_pictures,
)

pytestmark = BROWSER_MARKS

TOKEN = "a token of these tests"  # noqa: S105


def test_page_with_server_down_shows_error_and_retry_button(opened, serving):
    page = opened()
    with serving() as url:
        page.goto(f"{url}/?q=a+dog")
        found(page)
    page.locator("#q").fill("a cat")
    page.get_by_role("alert").get_by_text("The server does not answer.").wait_for()
    assert page.get_by_role("button", name="Try again").is_visible()
    page.close()
    assert all("ERR_CONNECTION_REFUSED" in each for each in page.complaints)
    page.complaints.clear()


def test_page_token_sign_in_sets_cookie_and_opens_search(opened, serving):
    page = opened()
    with serving(token=TOKEN) as url:
        page.goto(f"{url}/?q=a+windmill")
        assert_accessible(page)
        save_screenshot(page, "token")
        page.get_by_label("Token of this server").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("That is not the token").wait_for()
        page.complaints.clear()
        page.get_by_label("Token of this server").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/?q=a+windmill")
        found(page)
        wait_for_pictures(page)
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in cookie["value"]
        assert page.evaluate("document.cookie") == ""
        page.locator("#q").fill("a dog")
        page.wait_for_url("**/?q=a+dog")
        found(page)
        page.close()


def test_page_update_button_updates_folder(page, url):
    page.goto(f"{url}/?q=a+dog")
    page.locator("#upkeep summary").click()
    page.get_by_role("button", name=re.compile("^Update ")).click()
    page.get_by_text("Up to date: no changes.").wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    assert page.locator("#upkeep").get_attribute("open") is None


def test_page_hides_update_button_if_indexing_is_not_allowed(opened, serving):
    page = opened()
    with serving(allow_indexing=False) as url:
        page.goto(url)
        page.locator("#upkeep summary").click()
        page.get_by_text("Sources").wait_for()
        assert page.locator(".update").is_hidden()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible_in_both_color_schemes(opened, url, scheme):
    page = opened(color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    assert_accessible(page)
    page.goto(f"{url}/?q=a+lighthouse+by+the+sea&not=people")
    found(page)
    if scheme == "dark":
        save_screenshot(page, "nothing-dark")
    assert_accessible(page)
    page.locator("#upkeep summary").click()
    page.get_by_role("heading", name="Sources").wait_for()
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.locator("#hits a").first.click()
    page.get_by_role("dialog").wait_for()
    wait_for_pictures(page)
    assert_accessible(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_on_phone_is_accessible_without_horizontal_scrolling(opened, url, scheme):
    page = opened(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    page.goto(f"{url}/?q=a+windmill")
    found(page)
    if scheme == "light":
        save_screenshot(page, "phone-light")
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    assert_accessible(page)
    page.locator("summary", has_text="Narrow down").click()
    assert not page.evaluate(wide)
    page.locator("#hits a").first.click()
    page.get_by_role("dialog").wait_for()
    wait_for_pictures(page)
    assert not page.evaluate(wide)
    assert_accessible(page)


def test_page_without_javascript_searches_by_form(opened, url):
    page = opened(java_script_enabled=False)
    page.goto(url)
    page.get_by_label("What the picture shows").fill("a windmill")
    page.keyboard.press("Enter")
    page.get_by_text("40 of 212 pictures").wait_for()
    assert page.locator("#hits li[data-id]").count() == 40
    page.get_by_role("link", name="More pictures").click()
    page.wait_for_url("**cursor=*")
    assert page.locator("#hits li[data-id]").count() == 40
