"""What an answer holds when its pictures are gone, or too many bytes."""

import asyncio
import errno

import pytest

from mmsearch.core.errors import GoneError, UnknownNameError
from mmsearch.core.records import PictureRecord
from mmsearch.core.types import Picture
from mmsearch.mcp import tools
from mmsearch.mcp.schemas import GetImageArguments, SearchArguments
from mmsearch.mcp.tools import Tools
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
    """A desk whose every search finds so many pictures."""

    name = "default"

    def __init__(self, ids):
        self._ids = ids

    async def run(self, work):
        return work(Index())

    async def search(self, request):
        hits = tuple(hit(id=image_id) for image_id in self._ids[: request.k])
        return result(hits=hits)


class ThumbnailCache:
    """Thumbnails of so many bytes by size; the files of some pictures are gone."""

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


def test_a_picture_that_is_gone_costs_its_own_preview_only(run_search):
    answer = run_search([1, 2, MISSING, UNWRITABLE], {Size.SMALL: 10}, gone={1})
    assert block_types(answer) == [str, str, str, str, bytes, str, str, str, str]
    assert answer.blocks[2] == "   No preview: The file of picture 1 is gone."
    assert answer.blocks[6] == "   No preview: The picture was removed from the index."
    assert answer.blocks[8] == "   No preview: No space left on device."
    assert [picture_hit.id for picture_hit in answer.structured.hits] == [1, 2, MISSING, UNWRITABLE]


def test_previews_end_where_an_answer_would_become_too_large(run_search):
    answer = run_search(range(1, 9), {Size.SMALL: 150_000})
    assert block_types(answer).count(bytes) == 2
    assert sum(len(part) for part in answer.blocks) < tools.MAX_IMAGE_BYTES + 5000
    assert len(answer.structured.hits) == 8


def test_further_hits_are_told_without_a_preview(run_search):
    answer = run_search(range(1, 31), {Size.SMALL: 10})
    assert block_types(answer).count(bytes) == tools.MAX_PREVIEWS
    assert block_types(answer).count(str) == 31


def test_a_picture_that_is_too_large_for_an_answer_is_shown_smaller():
    sizes = {Size.LARGE: tools.MAX_IMAGE_BYTES + 1, Size.MEDIUM: 10}
    arguments = GetImageArguments(image_id=1, size=Size.LARGE)
    answer = asyncio.run(Tools(IndexWorker([]), ThumbnailCache(sizes)).get(arguments))
    text, content = answer.blocks
    assert text.endswith("Shown at 400 pixels: the larger image exceeds the answer limit.")
    assert len(content) == 10


def test_a_picture_that_is_not_there_is_no_picture():
    arguments = GetImageArguments(image_id=MISSING)
    with pytest.raises(UnknownNameError, match="has no picture 99"):
        asyncio.run(Tools(IndexWorker([]), ThumbnailCache({})).get(arguments))
