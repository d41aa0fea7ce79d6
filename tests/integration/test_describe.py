"""Texts that enrichers make: tags of real photographs, and texts read from the pixels of toys."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace

import pytest

import mmsearch
from mmsearch.core.derived import DerivedState, DerivedTexts
from mmsearch.core.errors import DecodeError, SourceError, UnknownNameError, UsageError
from mmsearch.core.query import Mode, TextTerm
from mmsearch.core.reports import Verdict
from mmsearch.core.server_results import IndexSummary
from mmsearch.core.types import Text
from mmsearch.executors import processes, threads
from mmsearch.exports.derived import NAME, read_texts, write_texts
from mmsearch.exports.formats import FORMATS, PART_FORMATS
from mmsearch.factories import catalogs
from mmsearch.indexing import enrich as enriching
from mmsearch.indexing.compaction import merge_derived
from mmsearch.indexing.enrich import (
    EnrichJob,
    PixelReaderFactory,
    commit_derived,
    enrich,
    read_pixels,
)
from mmsearch.storage.layout import IndexLayout
from tests.integration.test_exchange import read_export, run_export, run_import
from tests.integration.test_indexer_law import write
from tests.integration.test_moments import assert_sound, film, run
from tests.toy_index import (
    ToyEncoder,
    ToyFilmModality,
    ToyModality,
    seeded_pixels,
    toy_engine,
)

NUM_PHOTOS = 24


@pytest.fixture(scope="module")
def filled(tmp_path_factory, environment, photos):
    """Folder with some photographs and the home of their index."""
    folder = tmp_path_factory.mktemp("describe")
    (folder / "photos").mkdir()
    for path in sorted((photos / "photos").glob("*.jpg"))[:NUM_PHOTOS]:
        shutil.copy(path, folder / "photos")
    with pytest.MonkeyPatch.context() as patched:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patched.setenv(name, environment[name])
        with mmsearch.open_index(home=folder / "home", model="starter") as index:
            assert index.add_folder(folder / "photos").added == NUM_PHOTOS
    return folder


@pytest.fixture
def folder(filled, tmp_path):
    shutil.copytree(filled / "home", tmp_path / "home")
    return tmp_path


@pytest.fixture
def index(folder, environment, monkeypatch):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    with mmsearch.open_index(home=folder / "home") as index:
        yield index


def tags_by_picture(index):
    return {
        item.id: [(text.text, text.confidence) for text in item.texts if text.kind == "tag"]
        for item in index
    }


def derived_files(index):
    folder = index.folder / "derived"
    return sorted(folder.iterdir()) if folder.is_dir() else []


def test_tags_are_shown_filtered_and_never_change_a_vector(index):
    before = index.search("an animal", k=NUM_PHOTOS, mode="vector")
    (report,) = index.describe()
    assert (report.enricher, report.described, report.left) == ("tags", NUM_PHOTOS, 0)
    assert report.texts > 0
    tags = tags_by_picture(index)
    assert sum(map(len, tags.values())) == report.texts
    assert all(0.15 <= confidence <= 1 for own in tags.values() for _, confidence in own)
    word = next(own for own in tags.values() if own)[0][0]
    tagged = {number for number, own in tags.items() if word in dict(own)}
    found = index.search("anything", k=NUM_PHOTOS, filters={"auto_tag": word.upper()})
    assert {hit.id for hit in found} == tagged
    assert index.search("anything", filters={"tag": word}) == []
    condition = f"'{word}' in auto_tags"
    assert {
        hit.id for hit in index.search("x", k=NUM_PHOTOS, filters={"where": condition})
    } == tagged
    after = index.search("an animal", k=NUM_PHOTOS, mode="vector")
    assert [(hit.id, hit.score) for hit in after] == [(hit.id, hit.score) for hit in before]
    # Tags alone do not make a search hybrid.
    assert [hit.id for hit in index.search("an animal", k=9)] == [hit.id for hit in before[:9]]
    assert tagged <= {hit.id for hit in index.search(word, k=NUM_PHOTOS, mode="text")}


def test_only_what_is_new_is_described(index, photos):
    index.describe()
    generation = index.status().generation
    (report,) = index.describe()
    assert (report.described, report.texts) == (0, 0)
    assert index.status().generation == generation
    new = sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS]
    index.add([new], ids=["new"])
    (report,) = index.describe()
    assert report.described == 1
    (summary,) = index.status().derived
    assert (summary.enricher, summary.done, summary.failed) == ("tags", NUM_PHOTOS + 1, 0)


def test_another_vocabulary_replaces_all_tags(index, tmp_path):
    index.describe()
    vocabulary = tmp_path / "tags.txt"
    vocabulary.write_text("photograph of an animal\nphotograph of a building\n")
    (report,) = index.describe(vocabulary=vocabulary)
    assert report.described == NUM_PHOTOS
    words = {word for own in tags_by_picture(index).values() for word, _ in own}
    assert words <= {"photograph of an animal", "photograph of a building"}
    assert index.describe(vocabulary=vocabulary)[0].described == 0


def test_interrupted_work_continues_and_what_is_committed_is_found(index, monkeypatch):
    monkeypatch.setattr("mmsearch.maintenance.describe.VECTOR_PAGE_SIZE", 5)

    def stop(state):
        if state.done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.describe(progress=stop)
    assert index.status().derived[0].done == 10
    (report,) = index.describe()
    assert report.described == NUM_PHOTOS - 10
    assert len(derived_files(index)) == 5
    assert index.check().verdict is Verdict.SOUND


@pytest.mark.parametrize("point", ["file_renamed", "transaction_committed"])
def test_killed_work_leaves_a_sound_index(index, point):
    script = "import mmsearch, sys; mmsearch.open_index(home=sys.argv[1]).describe()"
    home = index.folder.parent
    killed = subprocess.run(
        [sys.executable, "-c", script, home],
        env=os.environ | {"MMSEARCH_FAULT": f"{point}:1"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert index.check().verdict is Verdict.SOUND
    index.describe()
    assert index.status().derived[0].done == NUM_PHOTOS
    assert len(derived_files(index)) == 1
    assert index.check().verdict is Verdict.SOUND


def test_compaction_merges_files_and_drops_texts_of_deleted_pictures(index, monkeypatch):
    monkeypatch.setattr("mmsearch.maintenance.describe.VECTOR_PAGE_SIZE", 5)
    index.describe()
    tags = tags_by_picture(index)
    assert len(derived_files(index)) == 5
    index.compact()
    assert len(derived_files(index)) == 1
    assert tags_by_picture(index) == tags
    assert index.check().verdict is Verdict.SOUND


def test_many_files_are_merged_by_the_run(index, monkeypatch):
    monkeypatch.setattr("mmsearch.maintenance.describe.VECTOR_PAGE_SIZE", 2)
    monkeypatch.setattr(enriching, "MAX_DERIVED_FILES", 8)
    index.describe()
    assert len(derived_files(index)) == 1
    assert index.check().verdict is Verdict.SOUND


def test_backup_and_restore_keep_what_was_made(index, tmp_path):
    index.set_source("photos", describe="tags")
    index.describe()
    tags = tags_by_picture(index)
    index.backup(tmp_path / "backup")
    restored = mmsearch.restore_index(tmp_path / "backup", "again", home=index.folder.parent)
    with mmsearch.open_index("again", home=index.folder.parent) as again:
        assert tags_by_picture(again) == tags
        assert again.check().verdict is Verdict.SOUND
        assert [source.choices for source in again.sources()] == [{"describe": {"tags": {}}}]
        assert again.describe()[0].described == 0
    assert restored.pictures == NUM_PHOTOS


def test_backup_in_a_store_keeps_what_was_made(index):
    index.describe()
    tags = tags_by_picture(index)
    uri = f"memory://{uuid.uuid4().hex}/photos"
    index.backup(uri)
    mmsearch.restore_index(uri, "again", home=index.folder.parent)
    with mmsearch.open_index("again", home=index.folder.parent) as again:
        assert tags_by_picture(again) == tags
        assert again.check().verdict is Verdict.SOUND


def test_lost_catalog_gets_derived_texts_from_their_files(index, filled):
    index.describe()
    tags = tags_by_picture(index)
    assert any(tags.values())
    for path in index.folder.glob("catalog.*"):
        path.unlink()
    index.repair()
    report = index.add_folder(filled / "photos")
    assert (report.copied + report.moved + report.added, report.encoded) == (NUM_PHOTOS, 0)
    assert tags_by_picture(index) == tags
    assert index.check().verdict is Verdict.SOUND
    assert index.describe()[0].described == 0


def test_damaged_file_of_derived_texts_is_found_and_written_again(index):
    index.describe()
    tags = tags_by_picture(index)
    (path,) = derived_files(index)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    report = index.check()
    assert report.verdict is Verdict.DAMAGED
    assert [finding.part for finding in report.findings] == [f"derived/{path.name}"]
    repaired = index.repair()
    assert "derived texts" in " ".join(repaired.mended)
    assert tags_by_picture(index) == tags
    assert index.check().verdict is Verdict.SOUND


def test_missing_file_of_derived_texts_is_written_again(index):
    index.describe()
    (path,) = derived_files(index)
    path.unlink()
    assert index.check().verdict is Verdict.DAMAGED
    index.repair()
    assert index.check().verdict is Verdict.SOUND
    assert len(derived_files(index)) == 1


def test_change_of_the_encoder_keeps_tags_until_they_are_made_again(index):
    index.describe()
    tags = tags_by_picture(index)
    index.reindex(fusion="weighted")
    assert tags_by_picture(index) == tags
    assert index.describe()[0].described == 0


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"enrichers": "nonsense"}, UnknownNameError),
        ({"enrichers": []}, UsageError),
        ({"enrichers": 7}, UsageError),
        ({"vocabulary": 7}, UsageError),
        ({"enrichers": "ocr", "vocabulary": "tags.txt"}, UsageError),
    ],
)
def test_wrong_arguments_are_refused(index, arguments, error):
    with pytest.raises(error):
        index.describe(**arguments)


# --- texts read from pixels ---


@dataclass(frozen=True)
class ToyReader:
    """Reads the first pixel of a picture; refuses those of which it is in ``unreadable``."""

    unreadable: frozenset = frozenset()
    edge_px: int = 8

    def __call__(self):
        return self

    def read(self, pixels):
        if int(pixels[0, 0, 0]) in self.unreadable:
            raise DecodeError("it has nothing to read")
        return (Text("ocr", f"pixel {pixels[0, 0].tolist()}", None, "ocr", None, 0.9),)


def text_of(name):
    return f"pixel {seeded_pixels(name.encode())[0, 0].tolist()}"


@pytest.fixture
def toys(tmp_path):
    """Folder with ten pictures and a film, and the layout of their index."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(10):
        write(folder, b"%d.toy" % number, b"picture %d" % number, 1 + number)
    write(folder, b"clip.film", film("clip", 5), 41)
    layout = IndexLayout(tmp_path / "home" / "index")
    run(layout, folder)
    return layout, folder


def read_all(
    layout, reader=None, made_by="r-1", kinds=("image", "video"), executor=None, **options
):
    job = EnrichJob("ocr", made_by, frozenset(kinds), 4, **options)
    factory = PixelReaderFactory((ToyModality(), ToyFilmModality()), reader or ToyReader())
    executor = executor or threads.build(2)
    try:
        with catalogs.open_write(layout, 0, create=False) as catalog:
            make_texts = read_pixels(executor, factory, lambda *source: b"")
            return enrich(layout, catalog, job, make_texts, lambda state: None)
    finally:
        executor.close()


def test_contents_likely_to_have_text_are_read_first_and_each_once(toys, monkeypatch):
    layout, folder = toys
    write(folder, b"Screenshot 7.toy", b"a screenshot", 50)
    write(folder, b"gone.toy", b"a scan that is gone", 51)
    os.rename(folder / "gone.toy", folder / "scan.toy")
    run(layout, folder)
    (folder / "scan.toy").unlink()
    committed = []

    def commit(layout, catalog, contents):
        committed.append(len(contents))
        commit_derived(layout, catalog, contents)

    monkeypatch.setattr(enriching, "commit_derived", commit)
    stats = read_all(layout, text_first=True)
    assert committed == [1, 4, 4, 3]
    assert (stats.done, stats.failed) == (12, [])
    assert read_all(layout, text_first=True).done == 0


def stored(layout):
    """Return the texts of all items, by the name of their file and their part."""
    with catalogs.open_read(layout) as catalog:
        return {
            (os.path.basename(item.path).decode(), item.locator.part): [
                text.text for text in item.picture.texts
            ]
            for item in catalog.list_live_pictures(0, 100)
        }


def test_each_item_gets_its_own_texts_also_in_windows(toys, monkeypatch):
    layout, _ = toys
    monkeypatch.setattr(enriching, "WINDOW_S", -1.0)
    stats = read_all(layout)
    assert (stats.done, stats.texts, stats.failed) == (11, 15, [])
    texts = stored(layout)
    assert all(texts[f"{n}.toy", 0] == [text_of(f"picture {n}")] for n in range(10))
    assert all(texts["clip.film", part] == [text_of(f"clip-{part}")] for part in range(5))
    with catalogs.open_read(layout) as catalog, catalog.snapshot() as snapshot:
        words = text_of("clip-3").split()[1].strip("[,")
        found = snapshot.match([TextTerm(words)], 20, None).ids.tolist()
        assert snapshot.has_texts
        assert found


def test_failure_of_an_enricher_leaves_the_picture_in_the_index(toys):
    layout, _ = toys
    first = int(seeded_pixels(b"picture 3")[0, 0, 0])
    stats = read_all(layout, ToyReader(frozenset({first})))
    assert b"3.toy" in {os.path.basename(file.path) for file in stats.failed}
    assert {file.reason for file in stats.failed} == {"it has nothing to read"}
    assert stored(layout)["3.toy", 0] == []
    assert read_all(layout).done == 0
    again = read_all(layout, retry_failed=True)
    assert again.done == len(stats.failed)
    assert stored(layout)["3.toy", 0] == [text_of("picture 3")]


@dataclass(frozen=True)
class DangerousReader(ToyReader):
    """Reader that ends its process or never returns for pictures with some first pixel."""

    crashing: int = -1
    hanging: int = -1

    def read(self, pixels):
        first = int(pixels[0, 0, 0])
        if first == self.crashing:
            os.abort()
        while first == self.hanging:
            time.sleep(1)
        return super().read(pixels)


def test_crash_or_endless_work_costs_one_picture(toys):
    layout, _ = toys
    crashing, hanging = (int(seeded_pixels(b"picture %d" % n)[0, 0, 0]) for n in (3, 5))
    reader = DangerousReader(crashing=crashing, hanging=hanging)
    executor = processes.build(2, 2.0)
    stats = read_all(layout, reader, kinds=("image",), executor=executor)
    reasons = {os.path.basename(file.path): file.reason for file in stats.failed}
    assert reasons[b"3.toy"] == "the decoder crashed"
    assert reasons[b"5.toy"] == "decoding took longer than 2 seconds"
    assert stats.done + len(stats.failed) == 10
    assert stored(layout)["4.toy", 0] == [text_of("picture 4")]


def test_files_that_are_gone_or_changed_are_left_for_later(toys):
    layout, folder = toys
    (folder / "1.toy").unlink()
    write(folder, b"2.toy", b"another picture", 99)
    stats = read_all(layout)
    assert (stats.done, stats.failed) == (9, [])
    run(layout, folder)
    assert read_all(layout).done == 1
    assert stored(layout)["2.toy", 0] == [text_of("another picture")]


def test_kinds_that_an_enricher_does_not_read_are_left_alone(toys):
    layout, _ = toys
    assert read_all(layout, kinds=("audio",)).done == 0
    assert read_all(layout, kinds=("image",)).done == 10
    assert read_all(layout, kinds=("image", "video")).done == 1


def test_merged_files_hold_all_items(toys):
    layout, _ = toys
    read_all(layout)
    before = stored(layout)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        merge_derived(layout, catalog)
        assert len(catalog.derived.files()) == 1
    assert stored(layout) == before


# --- exports and imports ---


def made_in(layout):
    """Return all that enrichers made, by digest and enricher."""
    with catalogs.open_read(layout) as catalog:
        made, _ = catalog.derived.list_texts(0, 1000)
    return {(one.digest, one.enricher): replace(one, seconds=0) for one in made}


@pytest.mark.parametrize("format_name", PART_FORMATS)
def test_texts_survive_an_export_and_an_import(format_name, toys, tmp_path):
    layout, folder = toys
    unreadable = int(seeded_pixels(b"picture 3")[0, 0, 0])
    read_all(layout, ToyReader(frozenset({unreadable})))
    run_export(layout, tmp_path / "a", format_name)
    other = IndexLayout(layout.folder.parent / "other")
    run_import(other, tmp_path / "a")
    assert made_in(other) == made_in(layout)
    assert stored(other) == stored(layout)
    with catalogs.open_read(other) as catalog:
        texts = [text for item in catalog.list_live_pictures(0, 100) for text in item.picture.texts]
    assert {(text.source, text.made_by, text.confidence) for text in texts} == {("ocr", "r-1", 0.9)}
    run_export(other, tmp_path / "b", format_name)
    assert (tmp_path / "a" / NAME).read_bytes() == (tmp_path / "b" / NAME).read_bytes()
    assert read_all(other).done == 0
    report = run(other, folder)
    assert (report.unchanged, report.encoded) == (11, 0)
    assert stored(other) == stored(layout)
    assert_sound(other, 11)


def test_import_keeps_the_texts_that_the_index_has(toys, tmp_path):
    layout, folder = toys
    read_all(layout)
    run_export(layout, tmp_path / "a")
    other = IndexLayout(layout.folder.parent / "other")
    run(other, folder)
    read_all(other, made_by="newer", kinds=("image",))
    before = made_in(other)
    run_import(other, tmp_path / "a")
    after = made_in(other)
    assert {key: after[key] for key in before} == before
    assert len(after) == len(before) + 1 == 11


def test_texts_of_removed_pictures_are_not_exported(toys, tmp_path):
    layout, folder = toys
    read_all(layout)
    (folder / "4.toy").unlink()
    run(layout, folder)
    run_export(layout, tmp_path / "a")
    digest = hashlib.sha256(b"picture 4").digest()
    made = {one.digest for one in read_texts(tmp_path / "a")}
    assert len(made) == 10
    assert digest not in made


def test_texts_are_in_no_row_and_not_in_clip_retrieval(toys, tmp_path):
    layout, _ = toys
    read_all(layout)
    for format_name in FORMATS:
        run_export(layout, tmp_path / format_name, format_name)
        assert (tmp_path / format_name / NAME).exists() == (format_name in PART_FORMATS)
        (batch,) = read_export(tmp_path / format_name)
        assert not any(item.picture.texts for item in batch.pictures)


def made(**changes):
    text = Text("ocr", "a word", None, "ocr", "r-1", 0.5)
    return replace(DerivedTexts(bytes(32), "ocr", "r-1", {0: (text,)}), **changes)


def test_texts_of_no_enricher_are_refused(tmp_path):
    write_texts(tmp_path, [made(enricher="sidecar")])
    with pytest.raises(SourceError, match="unknown enricher"):
        list(read_texts(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"confidence": 2.0},
        {"confidence": "much"},
        {"start_ms": -1},
        {"language": 3},
        {"boxes": ((0, 4, 0.5, 0.1, 0.4, 0.2),)},
        {"boxes": ((0, 4, 0.5),)},
        {"boxes": 7},
    ],
)
def test_texts_with_values_that_no_enricher_writes_are_refused(change, tmp_path):
    (text,) = made().texts[0]
    write_texts(tmp_path, [made(texts={0: (replace(text, **change),)})])
    with pytest.raises(SourceError, match="is damaged"):
        list(read_texts(tmp_path))


def test_damaged_file_of_texts_is_refused(tmp_path):
    write_texts(tmp_path, [made()])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="is damaged"):
        list(read_texts(tmp_path))


@dataclass(frozen=True)
class SignReader(ToyReader):
    """Reads two words on the picture that begins with a certain pixel."""

    pixel: tuple = ()

    def read(self, pixels):
        if tuple(pixels[0, 0].tolist()) != self.pixel:
            return ()
        return (Text("ocr", "red boat", None, "ocr", None, 0.9),)


def test_words_on_a_picture_come_before_the_best_look(tmp_path):
    """The look of a small sign says nothing about its words."""
    folder = tmp_path / "files"
    folder.mkdir()
    write(folder, b"look.toy", b"red boat", 1)
    pixels = {f"{n}.toy": seeded_pixels(b"other %d" % n) for n in range(40)}
    for number, name in enumerate(pixels):
        write(folder, name.encode(), b"other %d" % number, 2)
    layout = IndexLayout(tmp_path / "home" / "index")
    run(layout, folder)
    query = ToyEncoder().encode("text", [seeded_pixels(b"red boat")])[0]
    looks = ToyEncoder().encode("image", list(pixels.values())) @ query
    sign = list(pixels)[int(looks.argmin())]
    reader = SignReader(pixel=tuple(pixels[sign][0, 0].tolist()))
    assert read_all(layout, reader).texts == 1
    with toy_engine(layout) as engine:
        first, second, *_ = engine.search_text("red boat", 5, Mode.HYBRID).hits
    assert first.score > second.score
    assert (first.path.name, second.path.name) == (sign, "look.toy")


# --- texts that sources want ---


def add_photos(index, folder, **options):
    return index.add_folder(folder / "photos", **options)


def find_tags(index):
    """Return the tags of the built-in vocabulary that the pictures have."""
    index.describe("tags")
    return sorted({word for own in tags_by_picture(index).values() for word, _ in own})


@pytest.fixture
def copied(filled, folder):
    """Folder with photographs of its own, beside an index that has them."""
    shutil.copytree(filled / "photos", folder / "photos")
    return folder


def test_wanted_texts_are_kept_and_made_for_new_pictures(index, copied, photos):
    report = add_photos(index, copied, describe="tags")
    (work,) = report.described
    assert (work.enricher, work.described, work.left, work.error) == ("tags", NUM_PHOTOS, 0, None)
    assert add_photos(index, copied).described[0].described == 0
    new = sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS]
    shutil.copy(new, copied / "photos")
    outcomes = index.refresh()
    assert [w.described for w in outcomes["photos-2"].described] == [1]
    (copied / "photos" / "again").mkdir()
    shutil.copy(new, copied / "photos" / "again" / "copy.jpg")
    assert [w.described for w in add_photos(index, copied).described] == [0]


def test_choice_of_texts_is_shown_changed_and_reset(index, copied, tmp_path):
    vocabulary = tmp_path / "tags.txt"
    word = find_tags(index)[0]
    vocabulary.write_text(word)
    add_photos(index, copied, describe={"tags": {"vocabulary": vocabulary}})
    choice = {"tags": {"vocabulary": str(vocabulary)}}
    assert [source.choices.get("describe") for source in index.sources()] == [None, choice]
    words = {word for own in tags_by_picture(index).values() for word, _ in own}
    assert words == {word}
    assert index.describe()[0].described == 0
    assert index.set_source("photos-2", describe="none").choices == {}
    assert add_photos(index, copied).described == ()
    index.set_source("photos-2", describe=["tags"])
    assert add_photos(index, copied).described[0].described == NUM_PHOTOS
    index.set_source("photos-2", reset="describe")
    assert add_photos(index, copied).described == ()


@pytest.mark.parametrize(
    ("describe", "error"),
    [
        ("nonsense", UnknownNameError),
        ({"tags": {"vocabulary": "missing.txt"}}, SourceError),
        ({"tags": {"colour": "x"}}, UsageError),
        (7, UsageError),
    ],
)
def test_wrong_choice_is_refused_before_anything_is_done(index, copied, describe, error):
    generation = index.status().generation
    for add in (
        lambda: add_photos(index, copied, describe=describe),
        lambda: index.set_source("photos", describe=describe),
        lambda: index.add_source(copied / "photos", refresh=False, describe=describe),
    ):
        with pytest.raises(error):
            add()
    assert index.status().generation == generation
    assert len(index.sources()) == 1


def test_enricher_that_cannot_work_leaves_the_run_as_it_is(
    copied, environment, monkeypatch, tmp_path, photos
):
    for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
        monkeypatch.setenv(name, environment[name])
    messages = []
    vocabulary = tmp_path / "tags.txt"
    vocabulary.write_text("photograph of an animal\n")
    with mmsearch.open_index(home=copied / "home", on_message=messages.append) as index:
        add_photos(index, copied, describe={"tags": {"vocabulary": vocabulary}})
        vocabulary.unlink()
        messages.clear()
        shutil.copy(sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS], copied / "photos")
        report = add_photos(index, copied)
        assert report.added == 1
        (work,) = report.described
        assert (work.left, work.described) == (1, 0)
        assert "cannot be read" in work.error
        (message,) = messages
        assert message.startswith("tags: The vocabulary")
        assert message.endswith("Pictures are indexed without it.")
        assert add_photos(index, copied, describe="none").described == ()


def test_pictures_are_found_before_they_are_described(index, copied, monkeypatch):
    found = []

    def stop(state):
        if state.phase == "tags":
            with mmsearch.open_index(home=index.folder.parent) as other:
                found.append(len(other.search("anything", k=100, mode="vector", fold=False)))
            raise KeyboardInterrupt

    index.remove_source("photos")
    with pytest.raises(KeyboardInterrupt):
        add_photos(index, copied, describe="tags", progress=stop)
    assert found == [NUM_PHOTOS]
    assert index.check().verdict is Verdict.SOUND
    # The choice is kept, so the next run goes on.
    assert add_photos(index, copied).described[0].described == NUM_PHOTOS


def test_only_pictures_of_a_source_are_described_on_request(index, copied, photos):
    (copied / "others").mkdir()
    new = sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS : NUM_PHOTOS + 3]
    for path in new:
        shutil.copy(path, copied / "others")
    index.add_folder(copied / "others")
    assert [report.described for report in index.describe(sources="others")] == [3]
    with pytest.raises(UnknownNameError):
        index.describe(sources="nowhere")
    assert [report.described for report in index.describe()] == [NUM_PHOTOS]


def test_picture_in_two_folders_belongs_to_the_first_that_wants_its_texts(index, copied, tmp_path):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    tags = find_tags(index)
    first.write_text(tags[0])
    second.write_text(tags[1])
    index.set_source("photos", describe={"tags": {"vocabulary": first}})
    add_photos(index, copied, describe={"tags": {"vocabulary": second}})
    words = {word for own in tags_by_picture(index).values() for word, _ in own}
    assert words == {tags[0]}
    for _ in range(2):
        outcomes = index.refresh()
        assert {w.described for report in outcomes.values() for w in report.described} == {0}


def test_repair_keeps_what_is_wanted(index, copied):
    add_photos(index, copied, describe="tags")
    tags = tags_by_picture(index)
    (index.folder / "catalog.sqlite").unlink()
    index.repair()
    assert [s.choices for s in index.sources() if s.choices] == [{"describe": {"tags": {}}}]
    report = add_photos(index, copied)
    assert [work.described for work in report.described] == [0]
    assert sorted(map(str, tags_by_picture(index).values())) == sorted(map(str, tags.values()))


def test_status_says_what_is_left_also_before_anything_is_made(index, copied, photos):
    assert index.status().derived == ()
    index.set_source("photos", describe="tags")
    (work,) = index.status().derived
    assert (work.enricher, work.done, work.failed, work.left) == ("tags", 0, 0, NUM_PHOTOS)
    assert work.is_wanted
    assert work.left_s == pytest.approx(NUM_PHOTOS * 0.001)
    index.describe()
    new = sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS : NUM_PHOTOS + 2]
    for path in new:
        shutil.copy(path, copied / "photos")
    add_photos(index, copied)
    assert index.status().derived[0].left == 0
    index.set_source("photos-2", describe="tags")
    (after,) = index.status().derived
    assert (after.done, after.left, after.made_by) == (NUM_PHOTOS, 2, work.made_by)
    assert after.left_s == pytest.approx(2 * after.seconds / NUM_PHOTOS)
    answer = IndexSummary.from_status(index.status())
    assert answer.derived[0]["left"] == 2
    assert IndexSummary.from_dict(answer.to_dict()) == answer


def test_status_tells_earlier_texts_from_those_that_are_wanted(index, tmp_path):
    vocabulary = tmp_path / "tags.txt"
    vocabulary.write_text(find_tags(index)[0])
    index.set_source("photos", describe={"tags": {"vocabulary": vocabulary}})
    new, old = index.status().derived
    assert (new.done, new.left, new.is_wanted) == (0, NUM_PHOTOS, True)
    assert (old.done, old.left, old.is_wanted) == (NUM_PHOTOS, 0, False)
    assert new.left_s == pytest.approx(old.seconds)
    vocabulary.unlink()
    broken, old = index.status().derived
    assert (broken.made_by, broken.left) == ("", 0)
    assert "cannot be read" in broken.error


def test_status_of_texts_that_no_source_wants_says_what_the_next_call_would_do(index, photos):
    index.describe()
    index.add([sorted((photos / "photos").glob("*.jpg"))[NUM_PHOTOS]], ids=["new"])
    (work,) = index.status().derived
    assert (work.done, work.left, work.is_wanted) == (NUM_PHOTOS, 1, False)


def test_removed_texts_do_not_come_back(index, copied):
    messages = []
    index.describe()
    with catalogs.open_write(IndexLayout(index.folder), 0, create=False) as catalog:
        digest = catalog.list_live_pictures(0, 1)[0].digest
        sign = Text("ocr", "EXIT", None, "ocr", "r-1", 0.9)
        made = DerivedTexts(digest, "ocr", "r-1", {0: (sign,)})
        enriching.commit_derived(IndexLayout(index.folder), catalog, [made])
    assert any(tags_by_picture(index).values())
    with mmsearch.open_index(home=index.folder.parent, on_message=messages.append) as other:
        assert other.remove_model_texts("tags") == NUM_PHOTOS
        assert messages == []
        other.set_source("photos", describe="tags")
        assert other.remove_model_texts("tags") == 0
        assert messages == ["The source 'photos' wants tags, so the next run makes them again."]
        other.set_source("photos", describe="none")
    assert not any(tags_by_picture(index).values())
    assert len(derived_files(index)) == 1
    for path in index.folder.glob("catalog.*"):
        path.unlink()
    index.repair()
    add_photos(index, copied)
    assert not any(tags_by_picture(index).values())
    assert [work.enricher for work in index.status().derived] == ["ocr"]
    assert index.remove_model_texts(["ocr", "ocr"]) == 1
    assert derived_files(index) == []
    assert index.check().verdict is Verdict.SOUND


@pytest.mark.parametrize(("names", "error"), [((), UsageError), ("nonsense", UnknownNameError)])
def test_texts_of_no_enricher_cannot_be_removed(index, names, error):
    with pytest.raises(error):
        index.remove_model_texts(names)


def test_run_tries_failed_files_again_on_request(index, copied):
    made_by = add_photos(index, copied, describe="tags").described[0].made_by
    layout = IndexLayout(index.folder)
    with catalogs.open_write(layout, 0, create=False) as catalog:
        digest = catalog.list_live_pictures(0, 1)[0].digest
        failed = DerivedTexts(
            digest, "tags", made_by, state=DerivedState.FAILED, error="the disk was away"
        )
        enriching.commit_derived(layout, catalog, [failed])
    assert index.status().derived[0].failed == 1
    assert add_photos(index, copied).described[0].described == 0
    assert add_photos(index, copied, retry_failed=True).described[0].described == 1
    assert index.status().derived[0].failed == 0


def test_compaction_keeps_what_is_wanted(index, copied):
    add_photos(index, copied, describe="tags")
    index.compact()
    assert index.sources()[1].choices == {"describe": {"tags": {}}}
    assert add_photos(index, copied).described[0].described == 0
