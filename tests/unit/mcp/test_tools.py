"""Tests of the MCP tools with missing or oversized pictures, and with spoken queries."""

import asyncio
import base64
import errno

import pytest

from mmsearch.core.errors import GoneError, MissingExtraError, UnknownNameError, UsageError
from mmsearch.core.records import PictureRecord
from mmsearch.core.speech import SpeechSegment, Transcript
from mmsearch.core.types import Picture
from mmsearch.mcp import tools
from mmsearch.mcp.schemas import (
    MAX_AUDIO_CHARS,
    GetImageArguments,
    SearchArguments,
    SpeechArguments,
)
from mmsearch.mcp.tools import Tools, list_tool_specs
from mmsearch.server.thumbnails import Size
from tests.unit.mcp.test_results import hit, result

MISSING = 99
UNWRITABLE = 98


class Index:
    def picture(self, image_id):
        if image_id == MISSING:
            return None
        picture = Picture(640, 480, "JPEG")
        return PictureRecord(image_id, (b"/pictures/mill.jpg",), picture, 0, 1, b"/pictures", b"")


class IndexWorker:
    """Worker whose searches find the given pictures."""

    name = "default"

    def __init__(self, ids):
        self._ids = ids

    async def run(self, work):
        return work(Index())

    async def search(self, request):
        hits = tuple(hit(id=image_id) for image_id in self._ids[: request.k])
        return result(hits=hits)


class ThumbnailCache:
    """Thumbnail cache with a byte count for each size; the files of some pictures are gone."""

    def __init__(self, sizes, gone=()):
        self._sizes = sizes
        self._gone = gone

    def get(self, record, size):
        if record.id in self._gone:
            raise GoneError(f"The file of picture {record.id} is gone.")
        if record.id == UNWRITABLE:
            raise OSError(errno.ENOSPC, "No space left on device")
        return b"x" * self._sizes[size], "tag"


@pytest.fixture
def run_search():
    def run(ids, sizes, gone=()):
        arguments = SearchArguments(query="a mill", limit=30)
        return asyncio.run(Tools(IndexWorker(ids), ThumbnailCache(sizes, gone)).search(arguments))

    return run


def block_types(answer):
    return [type(part) for part in answer.blocks]


def test_search_tool_failed_preview_is_explained_and_keeps_other_previews(run_search):
    answer = run_search([1, 2, MISSING, UNWRITABLE], {Size.SMALL: 10}, gone={1})
    assert block_types(answer) == [str, str, str, str, bytes, str, str, str, str]
    assert answer.blocks[2] == "   No preview: The file of picture 1 is gone."
    assert answer.blocks[6] == "   No preview: The picture was removed from the index."
    assert answer.blocks[8] == "   No preview: No space left on device."
    assert [picture_hit.id for picture_hit in answer.structured.hits] == [1, 2, MISSING, UNWRITABLE]


def test_search_tool_previews_stop_at_image_byte_limit(run_search):
    answer = run_search(range(1, 9), {Size.SMALL: 150_000})
    assert block_types(answer).count(bytes) == 2
    assert sum(len(part) for part in answer.blocks) < tools.MAX_IMAGE_BYTES + 5000
    assert len(answer.structured.hits) == 8


def test_search_tool_hits_beyond_preview_limit_are_listed_without_preview(run_search):
    answer = run_search(range(1, 31), {Size.SMALL: 10})
    assert block_types(answer).count(bytes) == tools.MAX_PREVIEWS
    assert block_types(answer).count(str) == 31


def test_get_tool_oversized_picture_is_returned_in_smaller_size():
    sizes = {Size.LARGE: tools.MAX_IMAGE_BYTES + 1, Size.MEDIUM: 10}
    arguments = GetImageArguments(image_id=1, size=Size.LARGE)
    answer = asyncio.run(Tools(IndexWorker([]), ThumbnailCache(sizes)).get(arguments))
    text, content = answer.blocks
    assert text.endswith("Shown at 400 pixels: the larger image exceeds the answer limit.")
    assert len(content) == 10


def test_get_tool_unknown_picture_raises_unknown_name_error():
    arguments = GetImageArguments(image_id=MISSING)
    with pytest.raises(UnknownNameError, match="has no picture 99"):
        asyncio.run(Tools(IndexWorker([]), ThumbnailCache({})).get(arguments))


class SpeechQueue:
    """Queue that hears the content of a recording."""

    def __init__(self, is_available=True):
        self.is_available = is_available

    async def listen(self, content, language):
        segment = SpeechSegment(content.decode(), 0.0, 1.0, 0.75)
        return Transcript((segment,), language or "en", 1.0, 1.0)


class RequestWorker(IndexWorker):
    """Worker that keeps the requests of its searches."""

    def __init__(self):
        super().__init__([1, 2])
        self.requests = []

    async def search(self, request):
        self.requests.append(request)
        return await super().search(request)


def speak(text, speech=None, **arguments):
    """Return the worker and the answer of a spoken query."""
    worker = RequestWorker()
    tools = Tools(worker, ThumbnailCache({Size.SMALL: 10}), speech or SpeechQueue())
    audio = base64.b64encode(text.encode()).decode()
    answer = asyncio.run(tools.search_by_speech(SpeechArguments(audio=audio, **arguments)))
    return worker, answer


def test_speech_tool_searches_for_the_words_literally_with_filters():
    worker, answer = speak("dog - snow", language="de", limit=1, without="people", after="2015")
    (request,) = worker.requests
    spoken, negative = request.query.terms
    assert (spoken.text, spoken.weight, spoken.language) == ("dog - snow", 1.0, "de")
    assert (negative.text, negative.weight) == ("people", -1.0)
    assert request.query.filters.after == "2015-01-01T00:00:00"
    assert request.k == 1
    assert answer.structured.heard == "dog - snow"
    assert (answer.structured.language, answer.structured.heard_confidence) == ("de", 0.75)
    assert answer.blocks[0].startswith('Heard: "dog - snow"\n1 of 1,212 pictures.')
    assert len(answer.structured.hits) == 1


def test_tools_pass_right_and_wrong_matches_on():
    worker = RequestWorker()
    tools = Tools(worker, ThumbnailCache({Size.SMALL: 10}))
    asyncio.run(tools.search(SearchArguments(query="a dog", like=3, unlike=[4, 5])))
    (request,) = worker.requests
    clicked = [(term.picture, term.weight) for term in request.query.terms if term.picture]
    assert clicked == [(3, 1.0), (4, -1.0), (5, -1.0)]
    worker, _ = speak("dog", language="de", like=[3], unlike=None)
    assert [term.picture for term in worker.requests[0].query.terms] == [3, None]


@pytest.mark.parametrize("audio", ["/home/ada/question.wav", "question.wav", "aGk=\n\0"])
def test_speech_tool_reads_no_paths(audio):
    tools = Tools(RequestWorker(), ThumbnailCache({}), SpeechQueue())
    with pytest.raises(UsageError, match="not in base64"):
        asyncio.run(tools.search_by_speech(SpeechArguments(audio=audio)))


def test_speech_tool_refuses_large_recordings():
    with pytest.raises(ValueError, match="at most"):
        SpeechArguments(audio="A" * (MAX_AUDIO_CHARS + 1))


@pytest.mark.parametrize("speech", [None, SpeechQueue(is_available=False)])
def test_speech_tool_is_offered_only_if_speech_can_be_recognized(speech):
    def names(speech):
        tools = Tools(IndexWorker([]), ThumbnailCache({}), speech)
        return [spec.name for spec in list_tool_specs(tools)]

    assert "search_by_speech" not in names(speech)
    assert names(SpeechQueue())[1] == "search_by_speech"


def test_speech_tool_without_recognizer_names_the_extra():
    tools = Tools(IndexWorker([]), ThumbnailCache({}))
    with pytest.raises(MissingExtraError, match=r"\[speech\]"):
        asyncio.run(tools.search_by_speech(SpeechArguments(audio="aGk=")))
