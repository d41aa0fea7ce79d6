"""Spoken queries with the real models: what is spoken finds the picture."""

import io
import json
import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

import mmsearch as library
from mmsearch.core.errors import (
    InvalidQueryError,
    MissingExtraError,
    ModelUnavailableError,
    SourceError,
)
from mmsearch.core.settings import Settings
from mmsearch.server.app import serve_in_thread
from tests.http_client import http_client, open_server_state

pytest.importorskip("faster_whisper", reason="the extra speech is not installed")

from mmsearch.enrichers._sound import decode_sound

SOUNDS = Path(__file__).parents[1] / "sounds"
PANDA, LIBERTY = SOUNDS / "panda.ogg", SOUNDS / "statue_of_liberty.webm"
PANDA_PICTURE = "3a506c0018.jpg"


def silence(seconds, level=0):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(np.full(16_000 * seconds, level, "<i2").tobytes())
    return file.getvalue()


# --- Python ---


def test_spoken_query_finds_the_picture(index):
    for sound in (PANDA, str(PANDA), PANDA.read_bytes(), decode_sound(PANDA.read_bytes(), 60)):
        transcript = index.listen(sound)
        assert transcript.text == "A black and white panda"
        assert Path(index.search(transcript, k=1)[0].path).name == PANDA_PICTURE


def test_transcript_is_searched_as_its_words_are(index):
    transcript = index.listen(PANDA, language="en")
    options = {"k": 5, "without": "grass", "filters": {"min_width": 400}, "mode": "vector"}
    spoken, typed = index.search(transcript, **options), index.search(transcript.text, **options)
    assert [(hit.id, hit.score) for hit in spoken] == [(hit.id, hit.score) for hit in typed]


def test_language_that_the_model_does_not_read_is_named(index):
    transcript = index.listen(PANDA, language="de")
    notices = {notice.code: notice.text for notice in index.search(transcript).notices}
    assert "reads English; German was spoken" in notices["language"]
    assert "multilingual" in notices["language"]


@pytest.mark.parametrize("value", [7, None, object(), ["a.wav"], np.zeros((2, 5), np.float32)])
def test_recording_of_another_type_is_a_usage_error(index, value):
    with pytest.raises(library.UsageError, match=r"A recording is a path|16 kHz"):
        index.listen(value)


@pytest.mark.parametrize("samples", [np.zeros(9, np.int16), np.full(9, np.nan), np.full(9, 2.0)])
def test_samples_of_another_kind_are_a_usage_error(index, samples):
    with pytest.raises(library.UsageError, match="16 kHz in mono"):
        index.listen(samples)


def test_unusable_recordings_have_reasons(index, tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        index.listen(tmp_path / "missing.wav")
    with pytest.raises(SourceError, match="not a recording in a known format"):
        index.listen(b"hello")
    with pytest.raises(SourceError, match="longer than 60 seconds"):
        index.listen(silence(61))
    with pytest.raises(InvalidQueryError, match="no speech in it"):
        index.listen(silence(3))


def test_model_is_chosen_by_the_settings(photo_index, cache, tmp_path):
    def listen(model):
        settings = Settings(home=photo_index, cache=cache, speech_model=model)
        with library.open_index(settings=settings) as index:
            return index.listen(PANDA).text

    assert listen("tiny.en") == "A black and white panda"
    (folder,) = (cache / "models").glob("speech-tiny.en-????????????")
    assert listen(str(shutil.copytree(folder, tmp_path / "own"))) == "A black and white panda"
    (tmp_path / "own" / "model.bin").write_bytes(b"no model")
    with pytest.raises(ModelUnavailableError, match="is not a model of Whisper"):
        listen(str(tmp_path / "own"))


def test_missing_extra_is_named(index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(MissingExtraError, match=r"\[speech\]"):
        index.listen(PANDA)


# --- command ---


def test_command_prints_what_it_heard_and_the_hits(mmsearch, photo_index):
    done = mmsearch("query", "--speech", PANDA, "--home", photo_index, "-k", "2", "--paths")
    assert done.err.splitlines()[0] == 'Heard: "A black and white panda"'
    assert Path(done.out.splitlines()[0]).name == PANDA_PICTURE


def test_command_works_beside_filters_json_and_sheets(mmsearch, photo_index, tmp_path):
    sheet = tmp_path / "sheet.html"
    options = ("--min-width", "400", "--not", "snow", "--sheet", sheet, "--json")
    done = mmsearch("query", "--speech", PANDA, *options, "--home", photo_index)
    result = json.loads(done.out)
    assert result["heard"]["text"] == "A black and white panda"
    assert result["heard"]["language"] == "en"
    assert 0.3 < result["heard"]["confidence"] <= 1
    assert Path(result["hits"][0]["path"]).name == PANDA_PICTURE
    assert all(hit["width"] >= 400 for hit in result["hits"])
    assert sheet.exists()


def test_command_reads_stdin(photo_index, forked_command, environment):
    import subprocess

    done = subprocess.run(
        [forked_command, "query", "--speech", "-", "--home", photo_index, "-k", "1"],
        input=LIBERTY.read_bytes(),
        env=environment,
        capture_output=True,
        check=True,
    )
    assert b'Heard: "The Statue of Liberty"' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dog", "--speech", PANDA), "A description and --speech were both given."),
        (("--batch", PANDA, "--speech", PANDA), "--speech and --batch were both given."),
        (("dog", "--speech-language", "de"), "--speech-language was given without --speech."),
        (("--speech", SOUNDS / "README.md"), "it is not a recording in a known format"),
        (("--speech", "missing.wav"), "missing.wav cannot be read: no such file"),
        (("--speech", PANDA, "--speech-language", "xx"), "does not recognize the language 'xx'"),
    ],
)
def test_command_explains_mistakes(mmsearch, photo_index, arguments, message):
    done = mmsearch("query", *arguments, "--home", photo_index, code=2)
    assert message in done.err
    assert done.out == ""


# --- HTTP ---

AT = "/v1/indexes/default/search"


@pytest.fixture(scope="module")
def server(photo_index, environment):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MMSEARCH_CACHE", "MMSEARCH_CONFIG"):
            patch.setenv(name, environment[name])
        with http_client(photo_index) as client:
            yield client


def speak(server, content=None, **fields):
    files = {"speech": PANDA.read_bytes() if content is None else content}
    return server.post(f"{AT}/speech", files=files, data=fields)


def test_http_search_by_speech_equals_the_search_for_its_words(server):
    fields = {"limit": "5", "not": "grass", "filters": '{"min_width": 400}', "language": "en"}
    answer = speak(server, **fields).json()
    assert answer["heard"]["text"] == answer["query"] == "A black and white panda"
    assert answer["heard"]["language"] == "en"
    assert Path(answer["hits"][0]["path"]).name == PANDA_PICTURE
    body = {"query": answer["query"], "not": ["grass"], "filters": {"min_width": 400}, "limit": 5}
    typed = server.post(AT, json=body).json()
    assert typed["hits"] == answer["hits"]
    assert typed["next_cursor"] == answer["next_cursor"]


def test_http_upload_needs_no_file_name(server):
    part = b'--b\r\nContent-Disposition: form-data; name="speech"\r\n\r\n%b\r\n--b--\r\n'
    answer = server.post(
        f"{AT}/speech",
        content=part % PANDA.read_bytes(),
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.json()["heard"]["text"] == "A black and white panda"


@pytest.mark.parametrize(
    ("content", "fields", "status", "message"),
    [
        (b"hello", {}, 422, "not a recording in a known format"),
        (b"", {}, 422, "it is empty"),
        (silence(61), {}, 422, "longer than 60 seconds"),
        (silence(2), {}, 400, "no speech in it"),
        (None, {"language": "xx"}, 400, "does not recognize the language 'xx'"),
        (None, {"limit": "0"}, 422, "limit must be at least 1"),
        (None, {"filters": '{"colour": 1}'}, 422, "colour is unknown"),
    ],
)
def test_http_mistakes_are_explained(server, content, fields, status, message):
    answer = speak(server, content, **fields)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert message in answer.json()["detail"]


def test_http_names_the_missing_extra(photo_index, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with http_client(photo_index) as client:
        answer = speak(client)
    assert answer.status_code == 501
    assert "[speech]" in answer.json()["detail"]


def test_page_may_use_the_microphone_and_other_answers_may_not(server):
    page = server.get("/")
    assert page.headers["permissions-policy"] == "camera=(), microphone=(self), geolocation=()"
    assert 'data-speech="true"' in page.text
    for path in ("/docs", "/v1/indexes", "/static/app.js", "/nothing"):
        assert "microphone=()" in server.get(path).headers["permissions-policy"]


@pytest.mark.enable_socket
def test_client_searches_by_speech(photo_index):
    with (
        open_server_state(photo_index) as state,
        serve_in_thread(state, 0) as url,
        library.Client(url) as client,
    ):
        hits = client.search_speech(PANDA, k=3, filters={"min_width": 400})
        assert hits.heard.text == "A black and white panda"
        assert [hit.id for hit in hits] == [
            hit.id for hit in client.search(hits.heard.text, k=3, filters={"min_width": 400})
        ]
        assert len(client.search_speech(PANDA.read_bytes(), k=205, language="en")) == 205
        with pytest.raises(InvalidQueryError, match="no speech"):
            client.search_speech(silence(2))
        with pytest.raises(library.DecodeError, match="known format"):
            client.search_speech(b"hello")
        with pytest.raises(SourceError, match="cannot be read"):
            client.search_speech("missing.wav")


@pytest.mark.enable_socket
async def test_async_client_searches_by_speech(photo_index):
    with open_server_state(photo_index) as state, serve_in_thread(state, 0) as url:
        async with library.AsyncClient(url) as client:
            hits = await client.search_speech(PANDA, k=1)
    assert Path(hits[0].path).name == PANDA_PICTURE
