"""Untrusted sounds: mutants, playlists that name other files, and lengths that are not there."""

import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="the extra speech is not installed")

from mmsearch.core.derived import SoundWindow
from mmsearch.core.results import TaskFailure
from mmsearch.core.types import Text
from mmsearch.executors import processes
from mmsearch.factories.enrichers import open_sound
from mmsearch.indexing.encode import DecoderFactory, DecodeTask
from mmsearch.indexing.sound_tracks import SoundReaderFactory, WindowTask
from mmsearch.modalities import image, sound, video
from tests.faults.hostile_files import mutate
from tests.sound_files import write_tone

MUTANTS = 500
LIMIT_S = 60.0
MEMORY_MB = 1024
SOUNDS = Path(__file__).parents[1] / "sounds"


class NoPixels:
    """Preprocessor of pictures, which these files do not have."""

    edge_px = 260

    def __call__(self, pixels):
        return np.zeros(1, np.float32)


class Counter:
    """Enricher that says how many seconds of sound it got, of an hour at most."""

    def read(self, blocks, request):
        count = 0
        for block in blocks:
            assert np.isfinite(block.samples).all()
            count += len(block.samples)
            if count > 3600 * 16_000:
                break
        seconds = f"{count / 16_000:.1f}"
        return SoundWindow((Text("transcript", seconds, None, "speech", None, 1.0, 0, 1),))


def run(make, paths, task_class, **options):
    executor = processes.build(2, LIMIT_S, MEMORY_MB)
    try:
        tasks = []
        for path in paths:
            facts = path.stat()
            tasks.append(task_class(os.fsencode(path), facts.st_size, facts.st_mtime_ns, **options))
        return {task.path: outcome for task, outcome in executor.run(make, tasks)}
    finally:
        executor.close()


def decode(paths):
    """Return what decode workers say of files."""
    make = DecoderFactory((image.build(), sound.build(), video.build()), NoPixels())
    return run(make, paths, DecodeTask)


def listen(paths, from_ms=0):
    """Return what workers of an enricher get of the sound of files."""
    return run(SoundReaderFactory(Counter, open_sound), paths, WindowTask, from_ms=from_ms)


def flip_bytes(content, rng, kind):
    """Change some bytes of a sound."""
    # Headers are where a flipped byte does most.
    end = rng.choice([len(content), min(600, len(content))])
    for _ in range(rng.choice([1, 3, 30])):
        content[rng.randrange(end)] = rng.randrange(256)


@pytest.fixture(scope="module")
def mutants(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutants")
    rng = random.Random(11)
    names = ["a.wav", "a.mp3", "a.m4a", "a.opus", "a.flac", "a.aiff", "a.wma"]
    for name in names:
        container_format = "ipod" if name == "a.m4a" else None
        write_tone(folder / name, 3, rate=48_000, container_format=container_format)
    originals = [(folder / name).read_bytes() for name in names]
    paths = []
    for number in range(MUTANTS):
        which = number % len(names)
        paths.append(folder / f"{number:03}{names[which][1:]}")
        paths[-1].write_bytes(mutate(originals[which], rng, flip_bytes))
    return paths


def refusals(outcomes):
    """Return the number of files that were refused, each with one plain reason."""
    refused = [item for item in outcomes.items() if isinstance(item[1], TaskFailure)]
    for path, outcome in refused:
        assert not outcome.crashed, (path, outcome)
        assert 5 < len(outcome.reason) < 200, (path, outcome)
        assert outcome.reason.isprintable(), (path, outcome)
        assert "Error" not in outcome.reason, (path, outcome)
    return len(refused)


def test_mutated_sounds_are_items_or_have_one_reason(mutants):
    outcomes = decode(mutants)
    assert len(outcomes) == MUTANTS
    assert 5 < refusals(outcomes) < MUTANTS // 2
    read = [outcome for outcome in outcomes.values() if not isinstance(outcome, TaskFailure)]
    assert {outcome.kind for outcome in read} <= {"sound", "video", "image"}
    assert all(outcome.items for outcome in read)


@pytest.mark.parametrize("from_ms", [0, 1500])
def test_mutated_sounds_are_heard_or_have_one_reason(mutants, from_ms):
    outcomes = listen(mutants, from_ms)
    assert len(outcomes) == MUTANTS
    assert refusals(outcomes) < MUTANTS // 2


@pytest.mark.parametrize("name", ["list.mp3", "list.wav", "list.m4a", "list.mka"])
@pytest.mark.parametrize(
    "playlist",
    ["ffconcat version 1.0\nfile secret.wav\n", "#EXTM3U\n#EXTINF:1,\nsecret.wav\n"],
    ids=["ffconcat", "m3u8"],
)
def test_playlist_with_the_name_of_a_sound_reads_no_neighbour(tmp_path, name, playlist):
    write_tone(tmp_path / "secret.wav", 2)
    path = tmp_path / name
    path.write_text(playlist)
    for outcomes in (decode([path]), listen([path])):
        (outcome,) = outcomes.values()
        assert "known format" in outcome.reason


def test_header_that_promises_days_makes_no_items(tmp_path):
    path = tmp_path / "a.wav"
    write_tone(path, 2)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(content)
    (outcome,) = decode([path]).values()
    assert [item.locator.end_ms for item in outcome.items] == pytest.approx([2000], abs=100)
    (heard,) = listen([path]).values()
    assert float(heard[0].texts[0].text) == pytest.approx(2, abs=0.1)


def test_film_without_sound_has_nothing_to_hear_and_is_no_failure(tmp_path):
    from tests.films import write_film

    path = tmp_path / "a.mp4"
    write_film(path, [(200, 10, 10)], seconds=1)
    (outcome,) = listen([path]).values()
    assert outcome[0].texts[0].text == "0.0"
