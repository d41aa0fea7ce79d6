"""A changed byte in any file of an index is reported by a check or changes no answer."""

import json
import shutil
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmsearch as library
from mmsearch.core.errors import MMSearchError
from tests.faults.conftest import content_of, index_in_process, same
from tests.property_budget import examples

QUERIES = ("a dog", "a boat on the water")


@pytest.fixture(scope="module")
def sound(few_photos, tmp_path_factory, mmsearch):
    """Home of an index with captions, and its answers."""
    home = tmp_path_factory.mktemp("sound")
    table = tmp_path_factory.mktemp("table") / "captions.csv"
    rows = [f"{path},a dog called {path.stem}" for path in sorted(few_photos.glob("*.jpg"))[:5]]
    table.write_text("path,caption\n" + "\n".join(rows) + "\n")
    mmsearch("index", few_photos, "--home", home, "--model", "starter", "--captions", table, code=3)
    return home, answers(home)


def answers(home):
    with library.open_index(home=home) as index:
        return [
            [(hit.path, round(hit.score, 4), hit.texts) for hit in index.search(query, k=5)]
            for query in QUERIES
        ]


def files_of(home):
    return sorted(path for path in (home / "default").rglob("*") if path.is_file())


def is_noticed(home):
    with library.open_index(home=home) as index:
        return index.check().verdict != "sound"


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 255))
def test_index_with_flipped_byte_is_reported_or_answers_correctly(
    sound, tmp_path_factory, which, where, flipped
):
    home, right = sound
    copy = tmp_path_factory.mktemp("flipped") / "home"
    shutil.copytree(home, copy)
    files = [path for path in files_of(copy) if path.stat().st_size]
    path = files[which % len(files)]
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= flipped
    path.write_bytes(content)
    if is_noticed(copy):
        return
    assert answers(copy) == right, path


@pytest.fixture(scope="module")
def killed(few_photos, tmp_path_factory, run_indexer):
    """Home of an index whose writer was killed after several commits, and its content."""
    home = tmp_path_factory.mktemp("killed")
    run_indexer(few_photos, home, MMSEARCH_FAULT="transaction_committed:22")
    wal = home / "default" / "catalog.sqlite-wal"
    assert commits_in(wal) > 3
    with library.open_index(home=home) as index:
        assert index.check().verdict == "sound"
    return home, content_of(home)


def commits_in(wal):
    content = wal.read_bytes()
    return sum(any(content[at + 4 : at + 8]) for at in range(32, len(content), 4096 + 24))


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.floats(0, 1), st.integers(1, 255))
def test_flipped_wal_byte_is_reported_or_content_is_unchanged(
    killed, tmp_path_factory, where, flipped
):
    home, right = killed
    copy = tmp_path_factory.mktemp("flipped") / "home"
    shutil.copytree(home, copy)
    wal = copy / "default" / "catalog.sqlite-wal"
    content = bytearray(wal.read_bytes())
    content[int(where * (len(content) - 1))] ^= flipped
    wal.write_bytes(content)
    if not is_noticed(copy):
        assert same(content_of(copy), right)


@pytest.mark.parametrize("where", [8, 5000, -3000])
def test_repair_of_damaged_wal_restores_committed_pictures(
    where, killed, few_photos, tmp_path, mmsearch
):
    home, right = killed
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    wal = copy / "default" / "catalog.sqlite-wal"
    content = bytearray(wal.read_bytes())
    content[where] ^= 64
    wal.write_bytes(content)
    if where > 0:
        refused = mmsearch("index", few_photos, "--home", copy, "--model", "starter", code=1)
        assert "mmsearch repair" in refused.err
    mmsearch("repair", "--home", copy, code=3)
    mmsearch("check", "--home", copy)
    held = {path: row for path, row in right.items() if row[1] is None}
    found = content_of(copy)
    assert same({path: row for path, row in found.items() if path in held}, held)


@pytest.mark.parametrize("part", ["catalog.sqlite", "catalog.seal", "segments", "ann"])
def test_repair_of_flipped_byte_restores_content_and_answers(
    part, sound, few_photos, tmp_path, mmsearch
):
    home, right = sound
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    before = content_of(copy)
    place = copy / "default" / part
    path = place if place.is_file() else next(iter(sorted(place.iterdir())))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "damage" in mmsearch("check", "--home", copy, code=1).out
    mended = json.loads(mmsearch("repair", "--home", copy, "--json", code=None).out)
    assert mended["mended"]
    assert bool(mended["lost"]) == (part == "segments")
    mmsearch("check", "--home", copy)
    assert same(content_of(copy), before)
    assert answers(copy) == right


@pytest.mark.parametrize("fill", [b"", b"\0" * 5000, b"SQLite format 3\0" + b"\xa5" * 9000])
def test_repair_of_ruined_catalog_encodes_nothing(fill, sound, few_photos, tmp_path, mmsearch):
    home, _ = sound
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    before = content_of(copy)
    (copy / "default" / "catalog.sqlite").write_bytes(fill)
    done = mmsearch("query", "a dog", "--home", copy, code=1)
    assert done.err.startswith("Error: ")
    repaired = mmsearch("repair", "--home", copy, code=3)
    assert "24 vectors, " in repaired.out
    assert "0 pictures had to be encoded" in repaired.out
    mmsearch("check", "--home", copy)
    assert same(content_of(copy), before)
    assert index_in_process(few_photos, copy).encoded == 0


def test_missing_catalog_is_reported_as_damage_and_repaired(sound, few_photos, tmp_path, mmsearch):
    home, _ = sound
    copy = tmp_path / "home"
    shutil.copytree(home, copy)
    (copy / "default" / "catalog.sqlite").unlink()
    assert "repair" in mmsearch("index", few_photos, "--home", copy, code=1).err
    assert "missing" in mmsearch("check", "--home", copy, code=1).out
    mmsearch("repair", "--home", copy, code=3)
    mmsearch("check", "--home", copy)


@pytest.mark.parametrize("where", range(0, 100, 5))
def test_query_on_damaged_index_is_correct_or_raises_mmsearch_error(where, sound, tmp_path):
    home, right = sound
    for path in files_of(home):
        copy = tmp_path / "home"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(home, copy)
        victim = copy / path.relative_to(home)
        content = bytearray(victim.read_bytes())
        if content and victim.suffix != ".sqlite":
            content[len(content) * where // 100] ^= 0x10
            victim.write_bytes(content)
            # Anything but the right answer or an error of mmsearch fails here.
            with suppress(MMSearchError):
                assert answers(copy) == right
