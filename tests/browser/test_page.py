"""The page in a real browser, by mouse and by keyboard."""

import csv
import io
import os
import re
import shutil
from contextlib import closing, contextmanager, suppress
from importlib import resources, util
from pathlib import Path

import pytest
from PIL import Image

from mmsearch import api
from mmsearch.core.settings import Settings
from mmsearch.server.rules import Rules
from mmsearch.server.running import running
from mmsearch.server.service import Service

CHROMIUM = (
    os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
)


def _missing():
    if CHROMIUM is None:
        return "no Chromium: scripts/test --browser installs it, or $CHROMIUM names it"
    for package in ("playwright", "axe_playwright_python"):
        if util.find_spec(package) is None:
            return f"{package} is not installed: scripts/test --browser installs it"
    return None


pytestmark = [
    pytest.mark.browser,
    pytest.mark.enable_socket,
    pytest.mark.skipif(_missing() is not None, reason=str(_missing())),
    # Playwright's event loop is closed after the sockets of its pipe.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TOKEN = "a token of these tests"  # noqa: S105
SCREENSHOTS = os.environ.get("MMSEARCH_SCREENSHOTS_TO")
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def home(photo_index, tmp_path_factory):
    """An index of these tests alone: they bring it up to date."""
    return Path(shutil.copytree(photo_index, tmp_path_factory.mktemp("browser") / "home"))


@pytest.fixture(scope="module")
def captioned(photos, cache, tmp_path_factory):
    """The home of an index of some photographs with what is written of them."""
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
    """``with serving() as url``: a server over the photographs."""

    @contextmanager
    def serve(home=home, **rules):
        settings = Settings(home=home, cache=cache, model="starter", workers=1)
        with (
            closing(Service.of(settings, Rules(**rules), lambda: ["default"])) as service,
            running(service, 0) as url,
        ):
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
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Make pages; at the end none of them has complained."""
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


def hits(page):
    return page.eval_on_selector_all("#hits > li", "all => all.map(each => each.dataset.id)")


def found(page, says=r"\d+ of \d+ pictures"):
    """Wait until an answer is there."""
    page.wait_for_function(
        """says => {
            const count = document.getElementById("count");
            return new RegExp(says).test(count.textContent) && !count.classList.contains("waiting");
        }""",
        arg=says,
    )
    return hits(page)


def type_and_wait(page, text):
    with page.expect_response(lambda got: "/search?" in got.url and got.ok):
        page.locator("#q").press_sequentially(text)
        page.wait_for_timeout(250)
    return found(page)


def words_of(photos):
    lines = (photos / "manifest.csv").read_text(encoding="utf-8").splitlines()
    return {line.split(",")[0]: line.split(",")[1] for line in lines}


def name_of_first(page):
    return page.locator("#hits .caption").first.text_content().split(" · ")[0]


def pictures_loaded(page):
    page.wait_for_function(
        """() => [...document.querySelectorAll("#hits img, #details[open] img")]
            .filter(each => each.getBoundingClientRect().top < innerHeight)
            .every(each => each.complete && each.naturalWidth)"""
    )


def keep(page, name):
    """A picture of the page for the documents, if they are asked for."""
    if SCREENSHOTS is not None:
        pictures_loaded(page)
        page.wait_for_timeout(300)
        with Image.open(io.BytesIO(page.screenshot())) as shot:
            few = shot.convert("RGB").quantize(256, kmeans=2)
        few.save(Path(SCREENSHOTS) / f"{name}.png", optimize=True)


def without_violations(page):
    script = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    # Playwright's own world: the page's policy lets no script in.
    page.evaluate(script + "; undefined")
    report = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    told = [
        (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]])
        for each in report["violations"]
    ]
    assert told == []


def test_typing_finds_windmills(page, photos):
    page.keyboard.press("/")
    type_and_wait(page, "a windmill")
    assert words_of(photos)[f"photos/{name_of_first(page)}"] == "windmill"
    assert page.url.endswith("/?q=a+windmill")
    boxes = page.eval_on_selector_all(
        "#hits > li",
        """all => all.map(each => {
            const box = each.getBoundingClientRect();
            const image = each.querySelector("img");
            return [box.top, box.height, box.width / box.height, image.width / image.height];
        })""",
    )
    first_row = [box for box in boxes if abs(box[0] - boxes[0][0]) < 1]
    assert len(first_row) > 2
    assert max(box[1] for box in first_row) - min(box[1] for box in first_row) < 2


def test_what_was_typed_before_is_not_asked_for(page):
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/search" in request.url else 0)
    page.locator("#q").press_sequentially("a red boat", delay=20)
    found(page)
    assert len(asked) == 1
    assert "q=a+red+boat" in asked[0]


def test_nothing_jumps_when_pictures_come(page, url):
    page.goto(f"{url}/?q=a+dog")
    found(page)
    places = "all => all.map(each => Math.round(each.getBoundingClientRect().top))"
    before = page.eval_on_selector_all("#hits > li", places)
    pictures_loaded(page)
    assert page.eval_on_selector_all("#hits > li", places) == before


def test_details_by_keyboard(page, url):
    page.goto(f"{url}/?q=a+windmill")
    ids = found(page)
    page.locator("#q").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('li').dataset.id") == ids[1]
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.closest('li').dataset.id")
    assert below not in ids[:2]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.closest('li').dataset.id") == ids[0]
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    assert f"picture={ids[0]}" in page.url
    text = dialog.inner_text()
    assert re.search(r"(Likely|Possibly) what you asked for", text)
    assert re.search(r"Confidence\s+\d+ %", text)
    assert "Visual score" in text
    page.keyboard.press("ArrowRight")
    page.wait_for_url(f"**picture={ids[1]}")
    page.keyboard.press("Escape")
    page.wait_for_url("**/?q=a+windmill")
    dialog.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.closest('li').dataset.id") == ids[1]


def test_the_words_that_were_found_are_marked(opened, serving, captioned):
    page = opened()
    with serving(captioned) as url:
        page.goto(url)
        type_and_wait(page, "a jaguar with strong jaws")
        page.locator("#hits a").first.click()
        page.get_by_role("heading", name="Why it was found").wait_for()
        marked = page.locator("#matched mark").all_text_contents()
        assert marked == ["Jaguar", "jaguar", "jaw"]
        keep(page, "details")
        page.goto(f"{url}/?q=a+polar+bear")
        page.locator("#hits a").first.click()
        page.get_by_role("heading", name="Why it was found").wait_for()
        # Characters that JavaScript counts twice stand before it.
        assert page.locator("#matched mark").first.text_content() == "Polar"
        page.close()


def test_more_like_this(page, url):
    page.goto(f"{url}/?q=a+windmill")
    ids = found(page)
    page.locator("#hits a").first.click()
    page.get_by_role("button", name="More like this").click()
    page.wait_for_url(f"**/?like={ids[0]}")
    found(page)
    page.wait_for_function("id => document.querySelector('#hits li').dataset.id === id", arg=ids[0])
    page.get_by_role("button", name=f"Remove like picture {ids[0]}").click()
    page.wait_for_url("**/")
    page.get_by_text("Describe what you look for").wait_for()


def test_a_picture_that_is_chosen_and_text_with_it(page, photos):
    picture = next(path for path, word in words_of(photos).items() if word == "windmill")
    with page.expect_response(lambda got: got.url.endswith("/search/picture")):
        page.locator("#file").set_input_files(photos / picture)
    alone = found(page)
    assert name_of_first(page) == Path(picture).name
    page.get_by_text(Path(picture).name).first.wait_for()
    keep(page, "picture")
    with page.expect_response(lambda got: got.url.endswith("/search/picture")):
        page.locator("#q").fill("snow")
    page.wait_for_function(
        "ids => document.querySelector('#hits li:nth-child(3)').dataset.id", arg=0
    )
    assert found(page) != alone
    page.locator("summary", has_text="Narrow down").click()
    with page.expect_response(lambda got: got.url.endswith("/search/picture")) as told:
        page.locator("#orientation").select_option("portrait")
    assert told.value.json()["passed"] < 212


def test_a_picture_that_is_dropped_or_pasted(page, photos):
    give = """([kind, bytes]) => {
        const data = new DataTransfer();
        const file = new File([new Uint8Array(bytes)], "given.jpg", {type: "image/jpeg"});
        data.items.add(file);
        const made = kind === "paste"
            ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true})
            : new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
        document.body.dispatchEvent(made);
    }"""
    content = list(next((photos / "photos").glob("*.jpg")).read_bytes())
    page.evaluate(give, ["dragover", content])
    page.get_by_text("Drop the picture to search by it").wait_for()
    for kind in ("drop", "paste"):
        with page.expect_response(lambda got: got.url.endswith("/search/picture")):
            page.evaluate(give, [kind, content])
        found(page)
        assert page.locator("#drop").is_hidden()


def test_a_file_that_is_no_picture_is_said(opened, url, tmp_path):
    page = opened()
    page.goto(url)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    page.locator("#file").set_input_files(broken)
    page.get_by_role("alert").get_by_text("The picture that was sent cannot be read").wait_for()
    assert all("422" in each or "400" in each for each in page.complaints)
    page.complaints.clear()


def test_without(page, url):
    page.goto(f"{url}/?q=water")
    before = found(page)
    page.locator("summary", has_text="Narrow down").click()
    with page.expect_response(lambda got: "/search?" in got.url):
        page.get_by_label("Without").fill("boat, bridge")
    page.wait_for_url("**/?q=water&not=boat%2C+bridge")
    page.wait_for_timeout(300)
    assert found(page) != before


def test_filters(page, url):
    page.goto(f"{url}/?q=an+animal")
    found(page)
    page.locator("summary", has_text="Narrow down").click()
    page.get_by_label("Orientation").select_option("landscape")
    found(page, r"of (?!212)\d+ pictures")
    sizes = "all => all.map(each => [+each.getAttribute('width'), +each.getAttribute('height')])"
    shapes = page.eval_on_selector_all("#hits img", sizes)
    assert all(width > height for width, height in shapes)
    page.get_by_label("Folder").fill("nowhere")
    found(page, "No picture passes")
    page.get_by_label("Folder").fill("photos")
    found(page, r"of (?!212)\d+ pictures")
    page.get_by_label("Smallest width").fill("300")
    found(page)
    page.get_by_label("Taken after").fill("not a date")
    page.get_by_role("alert").get_by_text("not a date").wait_for()
    page.complaints.clear()
    page.get_by_role("button", name="Clear these").click()
    found(page, "of 212 pictures")
    assert page.url.endswith("/?q=an+animal")


def test_a_shared_address_shows_the_same_in_a_new_tab(page, url, opened):
    page.goto(url)
    type_and_wait(page, "a bird")
    page.locator("summary", has_text="Narrow down").click()
    page.get_by_label("Orientation").select_option("portrait")
    ids = found(page, r"of (?!212)\d+ pictures")
    page.locator("#hits a").nth(2).click()
    page.get_by_role("dialog").wait_for()
    other = opened()
    other.goto(page.url)
    other.get_by_role("dialog").wait_for()
    assert found(other)[:20] == ids[:20]
    assert other.locator("#q").input_value() == "a bird"
    assert other.get_by_label("Orientation").input_value() == "portrait"
    other.keyboard.press("Escape")
    other.wait_for_url("**/?q=a+bird&orientation=portrait")


def test_back_and_forward(page, url):
    page.goto(url)
    windmills = type_and_wait(page, "a windmill")
    page.keyboard.press("Enter")
    page.locator("#q").fill("a dog")
    page.wait_for_url("**/?q=a+dog")
    page.wait_for_timeout(300)
    dogs = found(page)
    assert dogs[:5] != windmills[:5]
    page.locator("#hits a").first.click()
    page.get_by_role("dialog").wait_for()
    page.go_back()
    page.get_by_role("dialog").wait_for(state="hidden")
    page.go_back()
    page.wait_for_function(
        "id => document.querySelector('#hits li').dataset.id === id", arg=windmills[0]
    )
    assert page.locator("#q").input_value() == "a windmill"
    page.go_forward()
    page.wait_for_function(
        "id => document.querySelector('#hits li').dataset.id === id", arg=dogs[0]
    )


def test_an_answer_that_comes_late_is_not_shown(page, url):
    from playwright.sync_api import Error

    held = []

    def hold(route):
        held.append(route)

    page.route(re.compile(r"/search\?q=a\+dog"), hold)
    page.goto(f"{url}/?q=a+windmill")
    windmills = found(page)
    page.locator("#q").fill("a dog")
    while not held:
        page.wait_for_timeout(50)
    page.go_back()
    assert page.locator("#q").input_value() == "a windmill"
    with suppress(Error):
        held[0].continue_()
    page.wait_for_timeout(500)
    assert found(page) == windmills


def test_further_pictures_come_as_one_scrolls(page, url):
    page.goto(f"{url}/?q=a+tree")
    found(page, "^40 of 212")
    for _ in range(12):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(150)
        if len(hits(page)) == 212:
            break
    found(page, "^212 of 212")
    assert len(set(hits(page))) == 212
    assert page.locator("#more").is_hidden()


def test_what_is_not_there_is_said(page, url):
    page.goto(url)
    type_and_wait(page, "the square root of minus one")
    page.get_by_text("Nothing here looks like that; nearest:").wait_for()
    page.locator("#q").fill("a windmill")
    page.get_by_text("Nothing here looks like that; nearest:").wait_for(state="hidden")


def test_a_server_that_is_gone_is_said(opened, serving):
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


def test_the_token_opens_the_page(opened, serving):
    page = opened()
    with serving(token=TOKEN) as url:
        page.goto(f"{url}/?q=a+windmill")
        without_violations(page)
        keep(page, "token")
        page.get_by_label("Token of this server").fill("wrong")
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("That is not the token").wait_for()
        page.complaints.clear()
        page.get_by_label("Token of this server").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/?q=a+windmill")
        found(page)
        pictures_loaded(page)
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert TOKEN not in cookie["value"]
        assert page.evaluate("document.cookie") == ""
        page.locator("#q").fill("a dog")
        page.wait_for_url("**/?q=a+dog")
        found(page)
        page.close()


def test_a_folder_is_brought_up_to_date(page, url):
    page.goto(f"{url}/?q=a+dog")
    page.locator("#upkeep summary").click()
    page.get_by_role("button", name=re.compile("Bring .* up to date")).click()
    page.get_by_text("Up to date: nothing had changed.").wait_for(timeout=60_000)
    page.keyboard.press("Escape")
    assert page.locator("#upkeep").get_attribute("open") is None


def test_a_server_that_does_not_index_offers_nothing(opened, serving):
    page = opened()
    with serving(indexing=False) as url:
        page.goto(url)
        page.locator("#upkeep summary").click()
        page.get_by_text("Folders").wait_for()
        assert page.locator(".update").is_hidden()
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(opened, url, scheme):
    page = opened(color_scheme=scheme, reduced_motion="reduce")
    page.goto(url)
    without_violations(page)
    page.goto(f"{url}/?q=a+lighthouse+by+the+sea&not=people")
    found(page)
    keep(page, f"nothing-{scheme}")
    without_violations(page)
    page.locator("#upkeep summary").click()
    page.get_by_role("heading", name="Folders").wait_for()
    without_violations(page)
    page.keyboard.press("Escape")
    page.locator("#hits a").first.click()
    page.get_by_role("dialog").wait_for()
    pictures_loaded(page)
    without_violations(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(opened, url, scheme):
    page = opened(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    page.goto(f"{url}/?q=a+windmill")
    found(page)
    keep(page, f"phone-{scheme}")
    wide = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(wide)
    without_violations(page)
    page.locator("summary", has_text="Narrow down").click()
    assert not page.evaluate(wide)
    page.locator("#hits a").first.click()
    page.get_by_role("dialog").wait_for()
    keep(page, f"phone-details-{scheme}")
    assert not page.evaluate(wide)
    without_violations(page)


def test_without_scripts_a_search_is_a_form(opened, url):
    page = opened(java_script_enabled=False)
    page.goto(url)
    page.get_by_label("What the picture shows").fill("a windmill")
    page.keyboard.press("Enter")
    page.get_by_text("40 of 212 pictures").wait_for()
    assert page.locator("#hits li").count() == 40
    page.get_by_role("link", name="More pictures").click()
    page.wait_for_url("**cursor=*")
    assert page.locator("#hits li").count() == 40
