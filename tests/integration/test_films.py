"""Films: moments of real photographs, found by their look and by their subtitles."""

import json
import os
import shutil
import sys
from io import BytesIO

import pytest
from PIL import Image

import mmsearch as library
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.indexing.encode import ShardEncoder
from mmsearch.maintenance.check import check
from mmsearch.maintenance.repair import repair
from mmsearch.storage.layout import IndexLayout
from tests import films

pytest.importorskip("av")
pytest.importorskip("pysubs2")

SECONDS = 6
SHOTS = 20
LINES = [(43.0, 44.5, "The impeller is behind the fire exit"), (61, 62, "Gone fishing")]


def srt(lines):
    """Return a file of subtitles."""
    stamps = [
        (f"00:{start // 60:02.0f}:{start % 60:06.3f}".replace(".", ","), words)
        for start, _, words in lines
    ]
    return "".join(f"{n}\n{at} --> {at}\n{words}\n\n" for n, (at, words) in enumerate(stamps, 1))


@pytest.fixture(scope="module")
def pictures(photos):
    return sorted((photos / "photos").glob("*.jpg"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pictures):
    """A folder with photographs and films."""
    folder = tmp_path_factory.mktemp("films")
    for photo in pictures[60:72]:
        shutil.copy(photo, folder)
    metadata = {
        "title": "Summer at the lake",
        "creation_time": "2019-05-17T12:00:00Z",
        "com.apple.quicktime.make": "Apple",
        "com.apple.quicktime.model": "iPhone 12",
        "com.apple.quicktime.location.ISO6709": "+48.8577+002.2950+035.0/",
    }
    films.write_film(folder / "plain.mp4", pictures[20:23], seconds=SECONDS)
    films.write_film(
        folder / "lake.mov",
        pictures[30:32],
        metadata=metadata,
        muxer={"movflags": "use_metadata_tags"},
    )
    made = tmp_path_factory.mktemp("made") / "made.mp4"
    films.write_film(made, pictures[:SHOTS], seconds=SECONDS)
    films.add_lines(made, folder / "spoken.mkv", LINES, "subrip", "eng")
    films.write_film(folder / "wrong-name.jpg", pictures[40:43], container_format="mp4")
    shutil.copy(pictures[50], folder / "IMG_1.jpg")
    films.write_film(folder / "IMG_1.MOV", pictures[51:53], seconds=1)
    return folder


@pytest.fixture(scope="module")
def home(folder, environment, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSEARCH_CACHE", environment["MMSEARCH_CACHE"])
        with library.open_index(home=home, model="starter") as index:
            report = index.add_folder(folder)
    assert (report.added, report.failed) == (12 + 4 + 1, ())
    return home


@pytest.fixture
def index(home):
    with library.open_index(home=home) as index:
        yield index


def found(index, query, **options):
    return [(hit.path.name, hit.start_s) for hit in index.search(query, **options)]


def test_moment_is_found_by_its_look(index, pictures):
    for shot in (0, 7, 19):
        best = index.similar(pictures[shot])[0]
        assert (best.path.name, best.start_s, best.kind) == ("spoken.mkv", 6.0 * shot, "video")


def test_line_of_subtitles_is_found_at_its_second(index):
    best = index.search("impeller behind the exit", mode="text")[0]
    assert (best.path.name, best.start_s, best.end_s) == ("spoken.mkv", 43.0, 44.5)
    moment = index.picture(best.id).locator
    assert (moment.start_ms, moment.end_ms) == (42_000, 48_000)
    assert (best.matched.kind, best.matched.start_ms) == ("subtitle", 43_000)


def test_lines_get_no_vectors(home):
    with catalogs.open_read(IndexLayout(home / "default")) as catalog:
        encoded = [
            (text.kind, text.source)
            for item in catalog.list_live_pictures(0, 1000)
            for text in item.picture.texts
            if item.texts_digest
        ]
    assert encoded.count(("title", "metadata")) == 1
    assert not [kind for kind, _ in encoded if kind == "subtitle"]


def test_facts_of_a_film_are_found(index):
    (hit,) = index.search("summer at the lake", k=1, mode="text")
    assert (hit.path.name, hit.format, hit.camera) == ("lake.mov", "MOV", "Apple iPhone 12")
    assert hit.taken_at.startswith("2019-05-17T")
    assert hit.taken_from == "video"
    for filters in ({"format": "mov"}, {"camera": "iphone"}, {"near": "48.8577,2.295,1"}):
        assert {name for name, _ in found(index, "a photo", k=20, filters=filters)} == {"lake.mov"}


def test_film_is_one_hit_with_its_other_moments(index):
    hits = index.search("a photo", k=20)
    assert len(hits) == 17
    (film,) = [hit for hit in hits if hit.path.name == "spoken.mkv"]
    assert len(film.moments) == 5


def test_film_with_the_name_of_a_picture_is_a_film(index, pictures):
    best = index.similar(pictures[41])[0]
    assert (best.path.name, best.start_s, best.kind) == ("wrong-name.jpg", 6.0, "video")


def test_video_of_a_live_photograph_is_not_a_film(index, pictures):
    assert index.similar(pictures[50])[0].path.name == "IMG_1.jpg"
    assert "IMG_1.MOV" not in {name for name, _ in found(index, "a photo", k=20)}


def test_thumbnail_shows_the_moment(index, pictures):
    hit = index.similar(pictures[7])[0]
    with Image.open(BytesIO(index.thumbnail(hit, 64))) as small, Image.open(pictures[7]) as whole:
        assert small.size == (64, 36)
        expected = whole.convert("RGB").resize((1, 1)).getpixel((0, 0))
        mean = small.convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert all(abs(a - b) < 14 for a, b in zip(mean, expected, strict=True))


def test_command_prints_the_second(installed_mmsearch, home):
    env = {"MMSEARCH_HOME": str(home)}
    done = installed_mmsearch("query", "impeller", "-k", 1, "--mode", "text", env=env)
    columns = done.out.rstrip("\n").split("\t")
    assert (columns[2].endswith("spoken.mkv"), columns[-1]) == (True, "0:43")
    done = installed_mmsearch("query", "impeller", "--json", "-k", 1, "--mode", "text", env=env)
    hit = json.loads(done.out)["hits"][0]
    assert (hit["start_s"], hit["end_s"], hit["kind"]) == (43.0, 44.5, "video")


def assert_sound(layout):
    settings = Settings(home=layout.folder.parent, device="cpu")
    report = check(layout, settings, lambda message: None, sources=False, content=False)
    assert report.verdict == "sound", report.findings


def test_lost_catalog_is_rebuilt_with_moments_and_lines(home, tmp_path):
    layout = IndexLayout(shutil.copytree(home / "default", tmp_path / "default"))
    layout.catalog.write_bytes(b"no catalog")
    settings = Settings(home=tmp_path, device="cpu")
    repair(layout, settings, lambda message: None, 0, lambda progress: None)
    with library.open_index(home=tmp_path) as index:
        hit = index.search("impeller", k=1, mode="text")[0]
        assert (hit.path.name, hit.start_s) == ("spoken.mkv", 43.0)
        assert (hit.matched.start_ms, hit.matched.end_ms) == (43_000, 44_500)
    assert_sound(layout)


def test_film_that_is_encoded_again_keeps_its_moments_and_lines(home, tmp_path):
    layout = IndexLayout(shutil.copytree(home / "default", tmp_path / "default"))
    with library.open_index(home=tmp_path) as index:
        before = [(hit.id, hit.path, hit.start_s) for hit in index.search("a boat", k=20)]
        assert index.reindex(fusion="attention", reencode=True).failed == ()
        after = [(hit.id, hit.path, hit.start_s) for hit in index.search("a boat", k=20)]
        assert len(before) == len(after) == 17
        assert found(index, "impeller", mode="text") == [("spoken.mkv", 43.0)]
    assert_sound(layout)


def test_subtitles_beside_a_film_are_read_without_decoding_it(folder, home, monkeypatch):
    def refuse(*arguments):
        raise AssertionError

    monkeypatch.setattr(ShardEncoder, "__call__", refuse)
    beside = folder / "plain.de.srt"
    layout = IndexLayout(home / "default")
    with library.open_index(home=home) as index:
        for line, second in (("am Kap", 7.0), ("am anderen Kap", 13.0)):
            beside.write_text(srt([(second, second + 1, f"Der Leuchtturm {line}")]))
            report = index.add_folder(folder)
            assert (report.added, report.failed) == (0, ())
            (best,) = index.search("Leuchtturm", mode="text")
            assert (best.path.name, best.start_s) == ("plain.mp4", second)
            assert (best.matched.language, best.matched.start_ms) == ("de", second * 1000)
        assert index.add_folder(folder).changed == 0
        shutil.move(folder / "plain.mp4", folder / "moved.mp4")
        beside = beside.rename(folder / "moved.de.srt")
        index.add_folder(folder)
        assert found(index, "Leuchtturm", mode="text") == [("moved.mp4", 13.0)]
        beside.unlink()
        shutil.move(folder / "moved.mp4", folder / "plain.mp4")
        index.add_folder(folder)
        assert found(index, "Leuchtturm", mode="text") == []
    assert_sound(layout)


def test_subtitles_without_a_package_are_named_as_a_problem(folder, home, monkeypatch):
    monkeypatch.setitem(sys.modules, "pysubs2", None)
    beside = folder / "plain.srt"
    beside.write_text(srt([(7.0, 8, "Unread")]))
    with library.open_index(home=home) as index:
        report = index.add_folder(folder)
        (problem,) = report.unreadable_texts
        assert os.path.basename(problem.path) == b"plain.srt"
        assert problem.reason == "it needs the extra 'video' (pip install '.[video]')"
        beside.unlink()
        index.add_folder(folder)
