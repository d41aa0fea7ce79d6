"""Votes, chips, facets, suggestions and duplicates on the page, in a real browser."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest

from benchmarks.quality.trips_library import write_library
from mmsearch import api
from mmsearch.core.settings import Settings
from tests.browser.page_helpers import (
    BROWSER_MARKS,
    assert_accessible,
    found,
    hits,
    save_screenshot,
    type_query,
)

pytestmark = BROWSER_MARKS


@pytest.fixture(scope="module")
def trips(photos, cache, tmp_path_factory):
    """Home of an index of trips, with dates, places, people and duplicates."""
    folder = tmp_path_factory.mktemp("trips", numbered=False)
    write_library(folder, photos)
    home = tmp_path_factory.mktemp("trips-home")
    settings = Settings(home=home, cache=cache, model="starter", workers=1)
    with api.open_index("default", settings=settings) as index:
        index.add_folder(folder)
    return home


@pytest.fixture(scope="module")
def trips_url(serving, trips):
    with serving(trips) as url:
        yield url


@pytest.fixture
def trips_page(opened, trips_url):
    page = opened()
    page.goto(trips_url)
    return page


def params(page):
    return parse_qs(urlsplit(page.url).query)


def chips(page, section):
    return page.locator(f"#{section} .chips li span").all_text_contents()


def test_votes_rank_again_and_stay_in_address(trips_page, trips_url):
    page = trips_page
    page.goto(f"{trips_url}/?q=windmill")
    before = found(page)
    liked = before[2]
    page.locator(f'li[data-id="{liked}"]').hover()
    with page.expect_response(lambda got: "/search?" in got.url and got.ok):
        page.locator(f'li[data-id="{liked}"] button[name="like"]').click()
    unliked = next(each for each in found(page) if each != liked)
    page.locator(f'li[data-id="{unliked}"]').hover()
    with page.expect_response(lambda got: "/search?" in got.url and got.ok):
        page.locator(f'li[data-id="{unliked}"] button[name="unlike"]').click()
    after = found(page)
    assert unliked not in after
    assert params(page) == {"q": ["windmill"], "like": [liked], "unlike": [unliked]}
    assert (
        page.locator(f'li[data-id="{liked}"] button[name="like"]').get_attribute("aria-pressed")
        == "true"
    )
    assert chips(page, "given") == [f"like picture {liked}", f"unlike picture {unliked}"]
    assert_accessible(page)
    save_screenshot(page, "votes")
    page.reload()
    assert found(page) == after
    page.get_by_role("button", name=f"Remove unlike picture {unliked}").click()
    page.wait_for_url(f"**/?q=windmill&like={liked}")
    page.go_back()
    assert found(page) == after


def test_vote_by_key_is_taken_back_by_the_same_key(trips_page, trips_url):
    page = trips_page
    page.goto(f"{trips_url}/?q=windmill")
    (first, *_) = found(page)
    page.locator("#q").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("+")
    page.wait_for_url(f"**like={first}")
    found(page)
    page.locator(f'li[data-id="{first}"] a').focus()
    page.keyboard.press("+")
    page.wait_for_url("**/?q=windmill")


def test_duplicates_are_one_hit_with_their_number_and_open_from_details(trips_page, trips_url):
    page = trips_page
    page.goto(f"{trips_url}/?q=windmill")
    folded = found(page)
    badge = page.locator("#hits .folded").first
    number = int(re.search(r"\+(\d+) similar", badge.text_content())[1])
    hit_id = badge.evaluate("badge => badge.closest('li').dataset.id")
    save_screenshot(page, "folded")
    page.locator(f'li[data-id="{hit_id}"] a').click()
    strip = page.locator("#duplicates-list button")
    assert strip.count() == number
    assert_accessible(page)
    strip.first.click()
    page.wait_for_function("id => !location.search.includes(`picture=${id}`)", arg=hit_id)
    other = params(page)["picture"][0]
    assert other not in folded
    page.keyboard.press("Escape")
    # Closing goes back in the history, which would abort a navigation that starts before it ends.
    page.wait_for_url("**/?q=windmill")
    page.goto(f"{trips_url}/?q=windmill&fold=false")
    assert other in found(page)
    assert page.locator("#hits .folded").count() == 0
    assert page.locator("#fold").input_value() == "false"


def test_dates_in_words_are_chips_that_can_be_removed(trips_page):
    page = trips_page
    type_query(page, "windmill in 2018")
    assert chips(page, "understood") == ["2018"]
    narrowed = hits(page)
    assert_accessible(page)
    save_screenshot(page, "understood")
    page.locator("#understood").get_by_role("button", name="Remove 2018").click()
    page.wait_for_function("() => document.getElementById('understood').hidden")
    assert len(found(page)) > len(narrowed)
    assert params(page)["q"] == ["windmill in 2018"]
    page.reload()
    assert page.locator("#understood").is_hidden()
    assert len(found(page)) > len(narrowed)
    # Words that are typed later are read again.
    page.locator("#q").fill("")
    type_query(page, "windmill in 2018")
    assert chips(page, "understood") == ["2018"]


def test_facets_narrow_the_search_to_their_counts(trips_page, trips_url):
    page = trips_page
    page.goto(f"{trips_url}/?q=Anna&fold=false")
    found(page)
    page.get_by_text("Years, places, cameras").click()
    year = page.locator("#facets ul[aria-labelledby=facet-year] button").nth(1)
    label, count = year.text_content().rsplit(" ", 1)
    assert_accessible(page)
    save_screenshot(page, "facets")
    year.click()
    page.wait_for_url(f"**after={label}*")
    assert len(found(page, says=rf"{count} of {count} pictures")) == int(count)
    assert chips(page, "given") == [f"Taken after: {label}", f"Taken before: {int(label) + 1}"]
    # The counts follow the search.
    years = page.locator("#facets ul[aria-labelledby=facet-year] button")
    page.wait_for_function(
        "() => document.querySelectorAll('#facets [aria-labelledby=facet-year] li').length === 1"
    )
    assert years.text_content() == f"{label} {count}"
    page.get_by_role("button", name=f"Remove Taken after: {label}").click()
    page.wait_for_function("() => !location.search.includes('after=')")


def test_facet_of_a_second_person_narrows_to_both(trips_page, trips_url):
    page = trips_page
    page.goto(f"{trips_url}/?person==Anna&fold=false")
    found(page)
    page.get_by_text("Years, places, cameras").click()
    ben = page.locator("#facets ul[aria-labelledby=facet-person] button", has_text="Ben")
    count = int(ben.text_content().rsplit(" ", 1)[1])
    ben.click()
    page.wait_for_url("**Ben*")
    assert len(found(page, says=rf"{count} of {count} pictures")) == count
    assert chips(page, "given") == ["Person: =Anna; =Ben"]
    page.reload()
    assert len(found(page)) == count


def test_suggestions_complete_the_query_by_keyboard_and_by_click(trips_page):
    page = trips_page
    with page.expect_response(lambda got: "/suggest?" in got.url and got.ok):
        page.locator("#q").press_sequentially("cas")
    first = page.locator("#suggestions li").first
    first.wait_for()
    text = first.get_attribute("data-text")
    assert text.startswith("cas")
    assert_accessible(page)
    save_screenshot(page, "suggestions")
    page.keyboard.press("ArrowDown")
    assert page.locator("#q").get_attribute("aria-activedescendant") == "suggestion-0"
    page.keyboard.press("Enter")
    assert page.locator("#q").input_value() == text
    assert page.locator("#suggestions").is_hidden()
    assert params(page)["q"] == [text]
    page.locator("#q").fill("")
    page.locator("#q").press_sequentially("cas")
    page.locator("#suggestions li", has_text=text).click()
    assert page.locator("#q").input_value() == text
    # Without the list, the arrow leads to the pictures.
    found(page)
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('#hits') !== null")


@pytest.mark.parametrize("width", [390, 1280])
def test_all_of_it_together_fits_the_screen_and_the_address(opened, trips_url, width):
    page = opened(viewport={"width": width, "height": 800})
    page.goto(f"{trips_url}/?q=Anna")
    ids = found(page)
    page.goto(f"{trips_url}/?q=Anna+in+2022&like={ids[1]}&unlike={ids[0]}&sort=-date&fold=false")
    found(page)
    page.get_by_text("Years, places, cameras").click()
    page.locator("#facets button").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert_accessible(page)
    save_screenshot(page, f"together-{width}")
