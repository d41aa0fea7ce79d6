"""Captions of pictures through the command, with a small model that was taught what to say."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import mmsearch as library

pytest.importorskip("transformers")

from tests.captioning_models import make_captioning_model

NUM_PHOTOS = 6
CAPTION = "a zeppelin over the harbour"
READ = np.full((40, 60, 3), (200, 100, 50), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photos):
    """A folder with photographs, one of which has a caption by a person, and a blank picture."""
    folder = tmp_path_factory.mktemp("captions") / "files"
    folder.mkdir()
    for number, path in enumerate(sorted((photos / "photos").glob("*.jpg"))[:NUM_PHOTOS]):
        (folder / f"photo{number}.jpg").write_bytes(path.read_bytes())
    (folder / "photo3.txt").write_text("a zeppelin")
    Image.new("RGB", (64, 64), "grey").save(folder / "blank.png")
    return folder


@pytest.fixture(scope="module")
def model(folder):
    pixels = [np.array(Image.open(folder / f"photo{number}.jpg")) for number in range(NUM_PHOTOS)]
    captions = {"a quiet place": pixels[0], CAPTION: pixels[1]}
    return make_captioning_model(folder.parent / "model", captions)


@pytest.fixture(scope="module")
def command(mmsearch, folder):
    def run(*arguments, **options):
        env = {"MMSEARCH_WORKERS": "1"}  # each of them imports torch
        return mmsearch(*arguments, "--home", folder.parent / "home", env=env, **options)

    run("index", folder, "--model", "starter")
    return run


@pytest.fixture(scope="module")
def vectors(command):
    """The hits of a search by vectors before there are captions."""
    return search(command, "harbour", "--mode", "vector")


@pytest.fixture(scope="module")
def described(command, model, vectors):
    return command("describe", "--captions", model).out


def search(command, *arguments):
    return json.loads(command("query", *arguments, "--json").out)["hits"]


def machine_captions(hits):
    return {
        hit["key"]: text for hit in hits for text in hit["texts"] if text["source"] == "captions"
    }


def test_command_writes_captions_once_and_searches_find_them(command, described, model, vectors):
    assert described.startswith(f"captions: {NUM_PHOTOS} texts of {NUM_PHOTOS + 1} pictures in ")
    assert command("describe", "--captions", model).out == "captions: nothing to do.\n"
    assert f"captions: {NUM_PHOTOS + 1} done (captions-blip-0MB-" in command("status").out
    text = machine_captions(search(command, "harbour", "--mode", "text"))["photo1.jpg"]
    assert (text["kind"], text["text"]) == ("caption", CAPTION)
    assert text["made_by"].startswith("captions-blip-")
    assert text["confidence"] > 0.8
    assert "described: a zeppelin over the harbour" in command("query", "harbour").out
    # Vectors stay as they are.
    after = search(command, "harbour", "--mode", "vector")
    assert [(h["key"], h["score"]) for h in after] == [(h["key"], h["score"]) for h in vectors]


def test_a_person_counts_more_than_a_model(command, described):
    (first, *_, last) = search(command, "zeppelin", "--mode", "text")
    assert first["key"] == "photo3.jpg"
    assert first["matched"]["source"] == "sidecar"
    assert last["matched"]["source"] == "captions"
    assert last["text"] == pytest.approx(first["text"] / 2, abs=0.01)


def test_another_model_replaces_the_captions(command, described, folder, tmp_path):
    first = folder.parent / "first"
    shutil.copytree(folder.parent / "home", first)
    other = make_captioning_model(
        tmp_path / "git", {"one thing": READ, "nothing": READ // 2}, "git"
    )
    with library.open_index(home=first) as index:
        (report,) = index.describe("captions", caption_model=other)
        assert report.texts == NUM_PHOTOS
        texts = [text for hit in index.search("a", k=9) for text in hit.texts]
        assert {text.text for text in texts if text.made_by} <= {"one thing", "nothing"}
        assert {text.made_by for text in texts if text.made_by} == {report.made_by}
        assert [(work.enricher, work.done) for work in index.status().derived] == [
            ("captions", NUM_PHOTOS + 1)
        ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Salesforce/blip-image-captioning-base", "There is no folder"),
        (".", "config.json is missing"),
    ],
)
def test_wrong_models_are_one_sentence_and_a_next_step(command, name, reason):
    assert reason in command("describe", "--captions", name, code=1).err


def test_reason_of_a_worker_reaches_the_user(command, folder, model, tmp_path):
    broken = shutil.copytree(model, tmp_path / "broken")
    (broken / "preprocessor_config.json").unlink()
    failed = command("describe", "--captions", broken, code=1)
    assert "cannot be loaded: " in failed.err
    assert "captions" not in failed.out


def test_captions_and_their_model_belong_together(folder, command, model):
    with library.open_index(home=folder.parent / "home") as index:
        with pytest.raises(library.UsageError, match="but no captions are made"):
            index.describe("tags", caption_model=model)
        with pytest.raises(library.UsageError, match="No captioning model"):
            index.describe(["tags", "captions"])


def test_source_that_wants_captions_gets_them_in_each_run(folder, model, tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    shutil.copy(folder / "photo1.jpg", files)
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        wanted = {"captions": {"model_folder": model}}
        (report,) = index.add_folder(files, describe=wanted).described
        assert (report.enricher, report.texts, report.error) == ("captions", 1, None)
        (hit,) = index.search("zeppelin", mode="text")
        assert hit.matched.source == "captions"


def test_each_moment_of_a_film_has_its_caption(tmp_path, monkeypatch):
    pytest.importorskip("av")
    from tests.films import write_film

    monkeypatch.setenv("MMSEARCH_WORKERS", "1")
    (tmp_path / "files").mkdir()
    pictures = [Image.new("RGB", (320, 240), colour) for colour in ("red", "blue")]
    for picture in pictures:
        picture.paste((255, 255, 255), (10, 10, 100, 100))
    write_film(tmp_path / "files/film.mp4", pictures, seconds=4, size=(320, 240))
    captions = {"a red wall": np.array(pictures[0]), "the blue sea": np.array(pictures[1])}
    model = make_captioning_model(tmp_path / "model", captions)
    with library.open_index(home=tmp_path / "home", model="starter") as index:
        index.add_folder(tmp_path / "files")
        (report,) = index.describe("captions", caption_model=model)
        assert (report.described, report.texts) == (1, 2)
        (hit,) = index.search("sea", mode="text")
        assert (hit.start_s, hit.matched.text) == (4.0, "the blue sea")
