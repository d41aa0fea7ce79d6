"""Contract of the enrichers: each is found by its name and judged by what it returns."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from mmsearch.core.derived import EnricherInput, EnricherOptions, SoundRequest
from mmsearch.core.errors import UsageError
from mmsearch.core.speech import SAMPLE_RATE, SoundBlock
from mmsearch.core.types import DERIVED_SOURCES, EncoderSpec
from mmsearch.factories.enrichers import list_enrichers, load_enricher
from tests.captioning_models import make_captioning_model

ENCODER = EncoderSpec("toy", 3, "a" * 64, {}, 1, 16)
WORDS = ("dog", "ship", "tree")
GROUNDS = {"dog": "white", "ship": "yellow", "tree": "orange"}
SOUNDS = Path(__file__).parents[1] / "sounds"
SPOKEN = {
    "panda.ogg": "a black and white panda",
    "yellow_duck.m4a": "a yellow duck swimming in the water",
}


def options(**values):
    """Options of an index whose three columns are the three words."""
    return EnricherOptions(
        encode_texts=lambda texts: np.eye(3, dtype=np.float32)[[WORDS.index(t) for t in texts]],
        probabilities=lambda images, texts: (images @ texts.T).astype(np.float64),
        **values,
    )


@pytest.fixture(scope="session")
def caption_model(tmp_path_factory):
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models") / "captions"
    return make_captioning_model(folder, {word: draw(word) for word in WORDS})


@pytest.fixture(params=list_enrichers())
def plugin(request):
    return request.param, load_enricher(request.param)


@pytest.fixture
def values(request, plugin, tmp_path, cache):
    """Options of this computer: a vocabulary, the folder of models, and a captioning model."""
    path = tmp_path / "words.txt"
    path.write_text("\n".join(WORDS))
    name, _ = plugin
    model = request.getfixturevalue("caption_model") if name == "captions" else None
    return {"vocabulary": path, "cache": cache, "model_folder": model, "device": "cpu"}


def inputs(reads):
    """Return inputs with something to find, by the words in them, and one with nothing."""
    if reads is EnricherInput.VECTORS:
        return dict(zip(WORDS, np.eye(3, dtype=np.float32), strict=True)), np.zeros(3, np.float32)
    if reads is EnricherInput.PIXELS:
        return {word: draw(word) for word in WORDS}, np.full((200, 300, 3), 200, np.uint8)
    return {words: hear(name) for name, words in SPOKEN.items()}, hear("panda.ogg") * 0


def hear(name):
    pytest.importorskip("faster_whisper", reason="the extra speech is not installed")
    from mmsearch.enrichers._sound import decode_sound

    return decode_sound((SOUNDS / name).read_bytes(), 60)


def draw(word):
    picture = Image.new("RGB", (400, 200), GROUNDS[word])
    ImageDraw.Draw(picture).text((60, 60), word, fill="black", font=ImageFont.load_default(60))
    return np.asarray(picture)


def run(module, one_or_more, **values):
    built = module.build(options(**values))
    if module.READS is EnricherInput.VECTORS:
        return built.describe(np.stack(one_or_more))
    if module.READS is EnricherInput.SOUND:
        blocks = [SoundBlock(500, samples) for samples in one_or_more]
        return [built.read(iter([block]), SoundRequest("en")).texts for block in blocks]
    return [built.read(pixels) for pixels in one_or_more]


def test_name_is_a_source_of_texts_and_kinds_are_named(plugin):
    name, module = plugin
    assert name in set(DERIVED_SOURCES)
    assert module.KINDS
    assert isinstance(module.KINDS, frozenset)


def test_fingerprint_is_stable_and_short(plugin, values):
    name, module = plugin
    first = module.fingerprint(options(**values), ENCODER)
    assert module.fingerprint(options(**values), ENCODER) == first
    assert first.startswith(name)
    assert len(first) < 100


def test_fingerprint_of_vectors_changes_with_the_encoder(plugin, values):
    _, module = plugin
    other = EncoderSpec("toy", 3, "b" * 64, {}, 1, 16)
    known = {module.fingerprint(options(**values), spec) for spec in (ENCODER, other)}
    assert len(known) == (2 if module.READS is EnricherInput.VECTORS else 1)


def test_texts_say_what_is_there(plugin, values):
    name, module = plugin
    found, _ = inputs(module.READS)
    for words, texts in zip(found, run(module, [*found.values()], **values), strict=True):
        assert [text.text.lower().strip(".") for text in texts] == [words]
        assert all(text.source == name and 0 < text.confidence <= 1 for text in texts)


def test_empty_input_has_no_text(plugin, values):
    _, module = plugin
    _, empty = inputs(module.READS)
    assert run(module, [empty], **values) == [()]


def test_texts_do_not_depend_on_what_else_is_read(plugin, values):
    _, module = plugin
    by_words, empty = inputs(module.READS)
    found = [*by_words.values()]
    together = run(module, [*found, empty], **values)
    alone = [run(module, [one], **values)[0] for one in (*found, empty)]
    backwards = run(module, [empty, *found[::-1]], **values)[::-1]
    assert together == alone == backwards


def test_times_of_sounds_are_those_of_their_clock_and_long_ones_are_read_in_windows(plugin, values):
    _, module = plugin
    if module.READS is not EnricherInput.SOUND:
        pytest.skip("it reads no sound")
    found, silence = inputs(module.READS)
    spoken = next(iter(found.values()))
    minute = np.zeros(60 * SAMPLE_RATE, np.float32)
    blocks = [SoundBlock(60_000 * n, minute) for n in range(20)]
    blocks[0] = SoundBlock(0, np.concatenate([minute[: -len(spoken)], spoken]))
    built = module.build(options(**values))
    window = built.read(iter(blocks), SoundRequest())
    start_ms = 60_000 - 1000 * len(spoken) // SAMPLE_RATE
    assert [text.start_ms for text in window.texts] == pytest.approx([start_ms], abs=500)
    assert all(text.start_ms <= text.end_ms <= window.next_ms for text in window.texts)
    assert 60_000 < window.next_ms <= 600_000
    assert window.language == "en"
    assert built.read(iter([SoundBlock(7, silence)]), SoundRequest()).next_ms is None
    with pytest.raises(UsageError, match="'xx'"):
        built.read(iter(blocks), SoundRequest("xx"))
