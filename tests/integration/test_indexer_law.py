"""Indexing a folder again after any changes gives the same result as a fresh index."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsearch.core.errors import IndexLockedError, SourceError
from mmsearch.core.results import IndexRequest
from mmsearch.storage.layout import IndexLayout
from tests.index_contents import load_stored_files
from tests.property_budget import examples
from tests.toy_index import ToyEncoder, seeded_pixels, toy_engine, toy_indexer


def layout_at(folder: Path) -> IndexLayout:
    return IndexLayout(folder)


def run(layout, photos, encoder=None, **options):
    with toy_indexer(layout, encoder) as indexer:
        return indexer.run(IndexRequest(os.fsencode(photos), **options))


def state(layout, photos):
    """Return digest and vector, or digest and failure reason, of each file by relative path.

    A file without pixels has no vector.
    """
    with toy_indexer(layout) as indexer:
        indexer.catalog.ensure_root(os.fsencode(photos))
        return {
            path: (file.digest, file.error or (vector is not None and vector.round(2).tobytes()))
            for path, (file, vector) in load_stored_files(layout, indexer.catalog).items()
        }


def write(photos, name, content, tick):
    path = Path(os.fsdecode(os.path.join(os.fsencode(photos), name)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    # Two writes never share a timestamp, and no timestamp is near the time of reading.
    os.utime(path, ns=(tick * 10**9, tick * 10**9))


NAMES = st.sampled_from(
    [b"a.toy", b"b.toy", b"sub/a.toy", b"sub/c d.toy", b"caf\xe9.toy", b"new\nline.toy"]
)
CONTENTS = st.sampled_from([b"one", b"two", b"three", b"bad one", b"bad two"])
FILM_NAMES = st.sampled_from([b"a.film", b"sub/b.film"])
FILM_CONTENTS = st.sampled_from(
    [
        b"film\nfive|a boat",
        b"film\nfour\nsix|a mill\nbad",
        b"film\n" + b"\n".join(b"%d" % n for n in range(70)),
    ]
)
NOTE_NAMES = st.sampled_from([b"a.note", b"sub/b.note"])
NOTE_CONTENTS = st.sampled_from([b"note\na red boat", b"note\na mill\nthe boat\nbad"])
STEPS = st.one_of(
    st.tuples(st.just("write"), NAMES, CONTENTS),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("copy"), NAMES, NAMES),
    st.tuples(st.just("touch"), NAMES),
    st.tuples(st.just("write"), FILM_NAMES, FILM_CONTENTS),
    st.tuples(st.just("delete"), FILM_NAMES),
    st.tuples(st.just("move"), FILM_NAMES, FILM_NAMES),
    st.tuples(st.just("copy"), FILM_NAMES, FILM_NAMES),
    st.tuples(st.just("write"), NOTE_NAMES, NOTE_CONTENTS),
    st.tuples(st.just("delete"), NOTE_NAMES),
    st.tuples(st.just("move"), NOTE_NAMES, NOTE_NAMES),
    st.tuples(st.just("index")),
)


def apply(photos, step, tick):
    kind, *names = step
    paths = [os.path.join(os.fsencode(photos), name) for name in names if isinstance(name, bytes)]
    if kind == "write":
        write(photos, names[0], names[1], tick)
    elif not os.path.exists(paths[0]):
        return
    elif kind == "delete":
        os.unlink(paths[0])
    elif kind == "touch":
        os.utime(paths[0], ns=(tick * 10**9, tick * 10**9))
    elif paths[0] != paths[1]:
        os.makedirs(os.path.dirname(paths[1]), exist_ok=True)
        (os.rename if kind == "move" else shutil.copy)(paths[0], paths[1])


def place(hit):
    """Return where a hit is, without its id."""
    moments = [(moment.part, round(moment.score, 2)) for moment in hit.moments]
    return hit.path, hit.copies, hit.part, hit.damage, moments


@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=1, max_size=12))
def test_index_after_any_file_history_equals_fresh_index(tmp_path_factory, steps):
    base = tmp_path_factory.mktemp("law")
    photos = base / "photos"
    photos.mkdir()
    old = layout_at(base / "old")
    for tick, step in enumerate(steps, start=1):
        if step[0] == "index":
            run(old, photos, allow_empty=True)
        else:
            apply(photos, step, tick)
    run(old, photos, allow_empty=True)
    fresh = layout_at(base / "fresh")
    run(fresh, photos)
    assert state(old, photos) == state(fresh, photos)
    with toy_engine(old) as mine, toy_engine(fresh) as theirs:
        for query in ("one", "two", "three", "68", "boat"):
            found, expected = (engine.search_text(query, 10).hits for engine in (mine, theirs))
            assert list(map(place, found)) == list(map(place, expected))
            np.testing.assert_allclose(
                [h.score for h in found], [h.score for h in expected], atol=2e-3
            )
    shutil.rmtree(base)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(70):
        write(folder, f"{number}.toy".encode(), f"content {number}".encode(), 1)
    return folder


@pytest.fixture
def layout(tmp_path):
    return layout_at(tmp_path / "index")


def test_indexer_run_over_unchanged_files_encodes_nothing(layout, photos):
    encoder = ToyEncoder()
    first = run(layout, photos, encoder)
    assert (first.added, first.encoded, encoder.encoded) == (70, 70, 70)
    second = run(layout, photos, encoder)
    assert (second.unchanged, second.encoded, encoder.encoded) == (70, 0, 70)


def test_indexer_moved_copied_or_returning_content_is_not_encoded_again(layout, photos):
    encoder = ToyEncoder()
    run(layout, photos, encoder)
    (photos / "0.toy").rename(photos / "moved.toy")
    shutil.copy2(photos / "1.toy", photos / "copied.toy")
    (photos / "2.toy").unlink()
    report = run(layout, photos, encoder)
    assert (report.moved, report.copied, report.gone, report.encoded) == (1, 1, 1, 0)
    write(photos, b"2.toy", b"content 2", 5)
    assert run(layout, photos, encoder).copied == 1
    assert encoder.encoded == 70
    with toy_engine(layout) as engine:
        hit = engine.search_text("content 2", 1).hits[0]
        assert hit.path.name == "2.toy"
        assert hit.score > 0.99


def test_indexer_copy_found_after_original_commit_counts_as_copy(layout, tmp_path, monkeypatch):
    from mmsearch.indexing import commit

    for name in ("INITIAL_SHARD_SIZE", "MIN_SHARD_SIZE", "MAX_SHARD_SIZE"):
        monkeypatch.setattr(commit, name, 2)
    folder = tmp_path / "few"
    for number in range(40):
        write(folder, f"a{number:02}.toy".encode(), f"content {number}".encode(), 1)
    for number in range(20):
        write(folder, f"b{number:02}.toy".encode(), f"content {number}".encode(), 1)
    encoder = ToyEncoder()
    report = run(layout, folder, encoder)
    assert (report.added, report.copied, encoder.encoded) == (40, 20, 40)


def test_indexer_changed_file_is_found_only_by_new_content(layout, photos):
    run(layout, photos)
    write(photos, b"3.toy", b"something else", 9)
    report = run(layout, photos)
    assert (report.changed, report.encoded) == (1, 1)
    with toy_engine(layout) as engine:
        assert engine.search_text("something else", 1).hits[0].path.name == "3.toy"
        assert engine.search_text("content 3", 1).hits[0].score < 0.9
        assert engine.search_text("x", 100).pictures == 70


def test_indexer_failed_file_is_recorded_and_retried_after_change(layout, photos):
    write(photos, b"x.toy", b"bad", 2)
    report = run(layout, photos)
    assert [(f.path.rsplit(b"/", 1)[1], f.reason) for f in report.failed] == [
        (b"x.toy", "it is bad")
    ]
    again = run(layout, photos)
    assert (again.failed, again.still_failed, again.unchanged) == ((), 1, 70)
    assert len(run(layout, photos, retry_failed=True).failed) == 1
    write(photos, b"x.toy", b"good now", 3)
    mended = run(layout, photos)
    assert (mended.changed, mended.failed, mended.still_failed) == (1, (), 0)


def test_indexer_picture_that_became_unreadable_counts_as_failed_not_gone(layout, photos):
    run(layout, photos)
    write(photos, b"4.toy", b"bad now", 4)
    report = run(layout, photos)
    assert (len(report.failed), report.gone) == (1, 0)
    with toy_engine(layout) as engine:
        assert engine.search_text("content 4", 1).hits[0].score < 0.9


def test_indexer_suddenly_empty_folder_raises_error_unless_allowed(layout, photos):
    run(layout, photos)
    shutil.rmtree(photos)
    photos.mkdir()
    with pytest.raises(SourceError, match="70 of its pictures are indexed"):
        run(layout, photos)
    with toy_engine(layout) as engine:
        assert engine.search_text("content 5", 1).pictures == 70
    assert run(layout, photos, allow_empty=True).gone == 70


def test_indexer_run_on_subfolder_updates_only_that_part(layout, photos):
    write(photos, b"sub/1.toy", b"inner", 1)
    run(layout, photos)
    (photos / "0.toy").unlink()
    write(photos, b"sub/2.toy", b"inner two", 1)
    report = run(layout, photos / "sub")
    assert (report.added, report.gone, report.unchanged) == (1, 0, 1)
    assert run(layout, photos).gone == 1


def test_indexer_interrupted_run_keeps_commits_and_next_run_continues(layout, photos):
    class Stopping(ToyEncoder):
        def encode(self, kind, batch):
            if any((item == seeded_pixels(b"content 9")).all() for item in batch):
                raise KeyboardInterrupt
            return super().encode(kind, batch)

    with pytest.raises(KeyboardInterrupt):
        run(layout, photos, Stopping())
    with toy_engine(layout) as engine:
        kept = engine.search_text("anything", 100)
        assert kept.pictures == len(kept.hits) >= 32
        assert engine.search_text("content 0", 1).hits[0].score > 0.99
    encoder = ToyEncoder()
    report = run(layout, photos, encoder)
    assert report.unchanged == kept.pictures
    assert encoder.encoded == 70 - kept.pictures
    with toy_indexer(layout) as indexer:
        assert indexer.catalog.last_run().outcome == "finished"


def test_indexer_encoder_error_aborts_run_and_marks_no_picture_failed(layout, photos):
    class Broken(ToyEncoder):
        def encode(self, kind, batch):
            raise RuntimeError("device lost")

    run(layout, photos)
    write(photos, b"new.toy", b"new", 1)
    with pytest.raises(RuntimeError, match="device lost"):
        run(layout, photos, Broken())
    report = run(layout, photos)
    assert (report.added, report.still_failed, report.failed) == (1, 0, ())


def test_orphan_index_files_are_removed_by_next_index_run(layout, photos):
    run(layout, photos)
    segments = layout.folder / "segments"
    unfinished = segments / f"{layout.new_segment_path(5).name}.tmp"
    orphans = [
        layout.new_segment_path(999),
        # Two workers may have written the first segment.
        layout.new_segment_path(1),
        segments / "000999.vectors",
        layout.vector_index_path(999, "vectors"),
        unfinished,
    ]
    of_others = [segments / name for name in ("000005.tmp", "5.npz", "notes.txt")]
    for path in (*orphans, *of_others):
        path.write_bytes(b"left by a crash")
    run(layout, photos)
    assert not any(path.exists() for path in orphans)
    assert all(path.exists() for path in of_others)
    with toy_engine(layout) as engine:
        assert len(engine.search_text("x", 100).hits) == 70


def test_indexer_second_writer_raises_lock_error_naming_first_process(layout, photos):
    with (
        toy_indexer(layout),
        pytest.raises(IndexLockedError, match=rf"process {os.getpid()} on .* since 20"),
    ):
        run(layout, photos)
    run(layout, photos)


def test_search_engine_open_during_index_run_sees_new_generation(layout, photos):
    run(layout, photos)
    with toy_engine(layout) as engine:
        before = engine.search_text("new", 1)
        write(photos, b"new.toy", b"new", 1)
        run(layout, photos)
        after = engine.search_text("new", 1)
    assert after.generation > before.generation
    assert (before.pictures, after.pictures) == (70, 71)
    assert before.hits[0].score < 0.9 < after.hits[0].score
    assert after.hits[0].path.name == "new.toy"


def test_stored_vector_of_each_file_matches_its_content(layout, photos):
    run(layout, photos)
    encoder = ToyEncoder()
    for path, (_, vector) in state(layout, photos).items():
        content = (photos / path.decode()).read_bytes()
        truth = encoder.encode("image", [seeded_pixels(content)])[0]
        np.testing.assert_allclose(np.frombuffer(vector, dtype=np.float32), truth, atol=0.006)
