"""Tests of the MCP tools with missing or oversized pictures."""

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
