"""What an answer holds when its pictures are gone, or too many bytes."""

import asyncio
import errno

import pytest

from mmsearch.core.errors import GoneError, UnknownNameError
from mmsearch.core.records import Record
from mmsearch.core.types import Picture
from mmsearch.mcp import tools
from mmsearch.mcp.schemas import PictureArguments, SearchArguments
from mmsearch.mcp.tools import Tools
from mmsearch.server.thumbnails import Size
from tests.unit.mcp.test_results import hit, result

MISSING = 99
UNWRITTEN = 98


class Index:
    def picture(self, image_id):
        if image_id == MISSING:
            return None
        picture = Picture(640, 480, "JPEG")
        return Record(image_id, (b"/pictures/mill.jpg",), picture, 0, 1, b"/pictures", b"")


class Desk:
    """A desk whose every search finds so many pictures."""

    name = "default"

    def __init__(self, ids):
        self._ids = ids

    async def ask(self, work):
        return work(Index())

    async def search(self, request):
        hits = tuple(hit(id=image_id) for image_id in self._ids[: request.k])
        return result(hits=hits)


class Thumbnails:
    """Thumbnails of so many bytes by size; the files of some pictures are gone."""

    def __init__(self, sizes, gone=()):
        self._sizes = sizes
        self._gone = gone

    def get(self, record, size):
        if record.id in self._gone:
            raise GoneError(f"The file of picture {record.id} is gone.")
        if record.id == UNWRITTEN:
            raise OSError(errno.ENOSPC, "No space left on device")
        return b"x" * self._sizes[size], "tag"


@pytest.fixture
def answered():
    def run(ids, sizes, gone=()):
        asked = SearchArguments(query="a mill", limit=30)
        return asyncio.run(Tools(Desk(ids), Thumbnails(sizes, gone)).search(asked))

    return run


def kinds(answer):
    return [type(part) for part in answer.parts]


def test_a_picture_that_is_gone_costs_its_own_preview_only(answered):
    answer = answered([1, 2, MISSING, UNWRITTEN], {Size.SMALL: 10}, gone={1})
    assert kinds(answer) == [str, str, str, str, bytes, str, str, str, str]
    assert answer.parts[2] == "   No preview: The file of picture 1 is gone."
    assert answer.parts[6] == "   No preview: it has left the index meanwhile."
    assert answer.parts[8] == "   No preview: No space left on device."
    assert [each.id for each in answer.facts.hits] == [1, 2, MISSING, UNWRITTEN]


def test_previews_end_where_an_answer_would_become_too_large(answered):
    answer = answered(range(1, 9), {Size.SMALL: 150_000})
    assert kinds(answer).count(bytes) == 2
    assert sum(len(part) for part in answer.parts) < tools.SHOWN_BYTES + 5000
    assert len(answer.facts.hits) == 8


def test_further_hits_are_told_without_a_preview(answered):
    answer = answered(range(1, 31), {Size.SMALL: 10})
    assert kinds(answer).count(bytes) == tools.SHOWN
    assert kinds(answer).count(str) == 31


def test_a_picture_that_is_too_large_for_an_answer_is_shown_smaller():
    sizes = {Size.LARGE: tools.SHOWN_BYTES + 1, Size.MEDIUM: 10}
    asked = PictureArguments(image_id=1, size=Size.LARGE)
    answer = asyncio.run(Tools(Desk([]), Thumbnails(sizes)).get(asked))
    words, content = answer.parts
    assert words.endswith("Shown at 400 pixels: larger it is too much for an answer.")
    assert len(content) == 10


def test_a_picture_that_is_not_there_is_no_picture():
    asked = PictureArguments(image_id=MISSING)
    with pytest.raises(UnknownNameError, match="has no picture 99"):
        asyncio.run(Tools(Desk([]), Thumbnails({})).get(asked))
