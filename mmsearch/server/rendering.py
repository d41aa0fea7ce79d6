"""Pictures and pages of hits as JSON objects for HTTP answers."""

from __future__ import annotations

from typing import Any

from mmsearch.core.cursors import encode_cursor
from mmsearch.core.display import display_path
from mmsearch.core.duplicate_groups import DuplicateGroups
from mmsearch.core.results import Hit, Item, SearchPage, SearchResult
from mmsearch.core.sorting import sort_hits


def render_search(
    index: str,
    result: SearchResult,
    offset: int,
    limit: int,
    query_key: str,
    root_path: str = "",
    sort: str = "score",
) -> dict[str, Any]:
    """Return one page of a search result; see `SearchPage`.

    Args:
        index: Name of the index.
        result: The search result, with at least one hit beyond the page if there is a next page.
        offset: Number of hits before the page.
        limit: Maximum number of hits on the page.
        query_key: Text that is different for each query, for the cursor of the next page.
        root_path: Path below which the client sees the server.
        sort: Order of the hits of the page; see `mmsearch.core.sorting`.
    """
    hits = sort_hits(result.hits[offset : offset + limit], sort)
    has_more = len(result.hits) > offset + limit
    page = SearchPage(
        **vars(result) | {"query": display_path(result.query), "hits": ()},
        next_cursor=encode_cursor(offset + limit, query_key) if has_more else None,
    )
    return page.to_dict() | {"hits": [render_item(index, hit, root_path) for hit in hits]}


def render_item(index: str, item: Item, root_path: str = "") -> dict[str, Any]:
    """Return a picture or a hit as JSON, with paths for display and with links."""
    values = item.to_dict()
    if isinstance(item, Hit):
        index = item.index or index
        for duplicate, shown in zip(item.duplicates, values["duplicates"], strict=True):
            shown["path"] = duplicate.location
    url = f"{root_path}/v1/indexes/{index}/pictures/{item.id}"
    return values | {
        "path": item.location,
        "copies": [display_path(path) for path in item.copies],
        "links": {"self": url, "original": f"{url}/original", "thumbnail": f"{url}/thumbnail"},
    }


def render_duplicates(found: DuplicateGroups) -> dict[str, Any]:
    """Return groups of duplicates as JSON, with paths for display."""
    answer = found.to_dict()
    for group, rendered in zip(found.groups, answer["groups"], strict=True):
        for file, hit in zip(group.hits, rendered["hits"], strict=True):
            hit["path"] = file.location
    return answer
