"""The details of films, of sounds, and of texts in pictures."""

import shutil
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from mmsearch import api
from mmsearch.core.settings import Settings
from tests.browser.page_helpers import BROWSER_MARKS, assert_accessible, found

pytestmark = BROWSER_MARKS

PHONE = {"width": 390, "height": 844}
SOUNDS = Path(__file__).parents[1] / "sounds"
WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="module")
def films(photos, cache, tmp_path_factory):
    """Home of an index of a film that browsers play, and of one that they do not."""
    pytest.importorskip("av", reason="the extra video is not installed")
    from tests.films import write_film

    folder = tmp_path_factory.mktemp("films", numbered=False)
    shots = sorted((photos / "photos").glob("*.jpg"))[:5]
    write_film(folder / "holiday.webm", shots, codec="libvpx", encoder={"preset": ""})
    (folder / "holiday.srt").write_text("1\n00:00:14,500 --> 00:00:16,000\nMind the harbour step\n")
    write_film(folder / "camera.avi", shots, codec="mpeg4")
    home = tmp_path_factory.mktemp("home_of_films")
    with api.open_index("default", settings=_settings(home, cache)) as index:
        assert index.add_folder(folder).added == 2
    return home


def _settings(home, cache):
    return Settings(home=home, cache=cache, model="starter", workers=1)


def open_hit(page, url, query, name):
    page.goto(f"{url}/?q={query}&fold=false")
    found(page)
    page.locator("#hits a", has_text=name).click()
    return page.locator("#details-video")


def seconds(page):
    return page.evaluate("document.getElementById('details-video').currentTime")


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_film_plays_from_its_moment_and_jumps_to_others(opened, serving, films, cache, size):
    with api.open_index("default", settings=_settings(films, cache)) as index:
        hits = index.search("a photograph", k=2)
        hit = next(hit for hit in hits if hit.path.name == "holiday.webm")
    page = opened(viewport=size)
    with serving(films) as url:
        video = open_hit(page, url, "a+photograph", "holiday.webm")
        assert page.locator("#hits .place.video").count() == 2
        page.wait_for_function("() => document.getElementById('details-video').readyState > 0")
        assert video.get_attribute("src").endswith(
            f"/original#t={hit.start_s:g}" if hit.start_s else "/original"
        )
        assert seconds(page) == pytest.approx(hit.start_s, abs=0.1)
        assert not page.locator("#details-picture").is_visible()
        moments = sorted((hit, *hit.moments), key=lambda moment: moment.part)
        strip = page.locator("#moments-list button")
        assert strip.all_text_contents() == [moment.position for moment in moments]
        pressed = page.locator('#moments-list [aria-pressed="true"]')
        assert pressed.text_content() == hit.position
        for button, moment in ((strip.first, moments[0]), (strip.last, moments[-1])):
            button.click()
            page.wait_for_function(
                "t => Math.abs(document.getElementById('details-video').currentTime - t) < 0.1",
                arg=moment.start_s,
            )
            page.get_by_role("heading", name=f"holiday.webm · {moment.position}").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert_accessible(page)
        page.keyboard.press("Escape")
        page.wait_for_function("() => !document.querySelector('#details-video[src]')")
        page.close()


def test_line_of_a_film_is_shown_with_its_time_which_is_a_button(opened, serving, films):
    pytest.importorskip("pysubs2", reason="the extra video is not installed")
    page = opened()
    with serving(films) as url:
        video = open_hit(page, url, "harbour+step", "holiday.webm")
        assert video.get_attribute("src").endswith("/original#t=14.5")
        assert page.locator("#matched").text_content() == "0:14 Mind the harbour step"
        page.wait_for_function("() => document.getElementById('details-video').readyState > 0")
        page.evaluate("() => { document.getElementById('details-video').currentTime = 1 }")
        page.locator("#matched").get_by_role("button", name="Play from 0:14").click()
        page.wait_for_function(
            "() => Math.abs(document.getElementById('details-video').currentTime - 14.5) < 0.1"
        )
        # The left arrow is the player's while it has the focus.
        before = page.locator("#details-title").text_content()
        video.press("ArrowRight")
        assert page.locator("#details-title").text_content() == before
        page.close()


def test_film_that_the_browser_cannot_play_stays_a_picture_with_a_download(opened, serving, films):
    page = opened()
    with serving(films) as url:
        video = open_hit(page, url, "a+photograph", "camera.avi")
        page.get_by_text("This browser cannot play this film.").wait_for()
        assert not video.is_visible()
        assert page.locator("#details-picture").is_visible()
        page.locator("#moments-list button").last.click()
        assert page.locator("#details-picture").is_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download the file").click()
        assert download.value.suggested_filename == "camera.avi"
        assert_accessible(page)
        page.locator("#previous:enabled, #next:enabled").first.click()
        page.get_by_role("heading", name="holiday.webm").wait_for()
        assert video.is_visible()
        assert not page.locator("#player-problem").is_visible()
        # The browser says itself that it cannot play the film.
        page.complaints[:] = [line for line in page.complaints if "Failed to load" not in line]
        page.close()


def test_original_of_film_is_sent_in_parts_with_its_type(serving, films):
    import httpx

    with serving(films) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/v1/indexes/default/search", params={"q": "a photograph"}).json()
        types = {}
        for hit in answer["hits"]:
            path = Path(hit["path"])
            reply = client.get(hit["links"]["original"], headers={"Range": "bytes=10-19"})
            assert reply.status_code == 206
            assert reply.content == path.read_bytes()[10:20]
            assert "default-src 'none'" in reply.headers["content-security-policy"]
            assert reply.headers["content-disposition"].startswith("attachment")
            types[path.name] = reply.headers["content-type"]
        assert types == {"holiday.webm": "video/webm", "camera.avi": "video/x-msvideo"}
        assert "media-src 'self'" in client.get("/").headers["content-security-policy"]


SIGN = (360, 200, 660, 320)


@pytest.fixture(scope="module")
def signs(photos, cache, tmp_path_factory):
    """Home of an index of a sign, as it is and turned by its EXIF, and of a scan."""
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    folder = tmp_path_factory.mktemp("signs", numbered=False)
    photo = Image.open(min((photos / "photos").glob("*.jpg"))).convert("RGB").resize((1024, 768))
    draw = ImageDraw.Draw(photo)
    draw.rectangle(SIGN, fill="green")
    draw.text((390, 220), "FIRE EXIT", fill="white", font=ImageFont.load_default(52))
    photo.save(folder / "upright.jpg")
    exif = Image.Exif()
    exif[274] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    scan = Image.new("RGB", (1190, 1684), "white")
    for line, text in enumerate(["Minutes of the", "harbour committee", "by the fire exit"]):
        font = ImageFont.load_default(60)
        ImageDraw.Draw(scan).text((120, 150 + 200 * line), text, fill="black", font=font)
    scan.save(folder / "scan.png")
    home = tmp_path_factory.mktemp("home_of_signs")
    with api.open_index("default", settings=_settings(home, cache)) as index:
        assert index.add_folder(folder).added == 3
        index.describe("ocr")
    return home


@pytest.mark.parametrize("size", [WIDE, PHONE])
@pytest.mark.parametrize(
    ("name", "picture", "place"),
    [
        ("upright.jpg", (1024, 768), SIGN),
        ("turned.jpg", (1024, 768), SIGN),
        ("scan.png", (1190, 1684), (85, 530, 715, 650)),
    ],
)
def test_lines_with_the_words_are_marked_where_they_stand(
    opened, serving, signs, size, name, picture, place
):
    page = opened(viewport=size)
    with serving(signs) as url:
        open_hit(page, url, "fire+exit", name)
        box = page.locator("#details-boxes rect")
        box.wait_for()
        assert box.count() == 1
        mark = box.bounding_box()
        shown = page.locator("#details-picture").bounding_box()
        scale = min(shown["width"] / picture[0], shown["height"] / picture[1])
        left = shown["x"] + (shown["width"] - scale * picture[0]) / 2
        top = shown["y"] + (shown["height"] - scale * picture[1]) / 2
        assert left + scale * place[0] < mark["x"]
        assert top + scale * place[1] < mark["y"]
        assert mark["x"] + mark["width"] < left + scale * place[2]
        assert mark["y"] + mark["height"] < top + scale * place[3]
        page.close()


@pytest.fixture(scope="module")
def sounds(photos, cache, tmp_path_factory):
    """Home of an index of a recording and of a photograph."""
    pytest.importorskip("av", reason="the extra speech is not installed")
    folder = tmp_path_factory.mktemp("sounds", numbered=False)
    shutil.copy(SOUNDS / "panda.ogg", folder / "memo.ogg")
    (folder / "memo.txt").write_text("A zebrafish speaks", encoding="utf-8")
    shutil.copy(min((photos / "photos").glob("*.jpg")), folder)
    home = tmp_path_factory.mktemp("home_of_sounds")
    with api.open_index("default", settings=_settings(home, cache)) as index:
        assert index.add_folder(folder).added == 2
    return home


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_sound_is_shown_as_its_waveform_and_plays(opened, serving, sounds, size):
    page = opened(viewport=size)
    with serving(sounds) as url:
        video = open_hit(page, url, "zebrafish", "memo.ogg")
        player = page.locator("#details-sound")
        page.wait_for_function("() => document.getElementById('details-sound').duration > 1")
        assert player.is_visible()
        assert not video.is_visible()
        assert page.locator("#details-picture").is_visible()
        page.wait_for_function("() => document.getElementById('details-picture').naturalWidth > 0")
        # It has no look that others could resemble, and no size.
        assert not page.locator("#alike").is_visible()
        assert "MP)" not in page.locator("#metadata").text_content()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert_accessible(page)
        page.close()
