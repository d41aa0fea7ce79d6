"""Duplicates in an index, for people who tidy up."""

from __future__ import annotations

from mmsearch.api._maintenance import MaintainedIndex
from mmsearch.api._session import translate_errors
from mmsearch.core.duplicate_groups import (
    DEFAULT_GROUPS,
    DuplicateGroups,
    check_kind,
    check_limit,
    make_cursor,
    make_group,
    parse_cursor,
)


@translate_errors
class IndexDuplicates(MaintainedIndex):
    """The duplicates of an index; see `mmsearch.Index`."""

    def duplicates(
        self, kind: str | None = None, *, limit: int = DEFAULT_GROUPS, cursor: str | None = None
    ) -> DuplicateGroups:
        """Return groups of duplicate files, each with a suggestion of which one to keep.

        Nothing is deleted. Each indexing run brings the groups up to date; after small additions
        to a large index, the next run over a folder does.

        Args:
            kind: ``exact`` (one content in several places), ``near`` (such as copies of another
                size, compression or crop) or ``burst``; None for all kinds.
            limit: Maximum number of groups, 1000 at most.
            cursor: ``next_cursor`` of the page before; None for the first page.

        Raises:
            UnknownIndexError: The index does not exist.
            UsageError: There is no such kind, the limit is out of range, or the cursor is not
                valid, or is of another index or kind.
        """
        chosen, name = check_kind(kind), self._layout.name
        after = parse_cursor(cursor, name, chosen)
        check_limit(limit)
        with self._session.catalog() as catalog:
            page = catalog.duplicates.list_groups(chosen, after, limit)
        return DuplicateGroups(
            tuple(make_group(one, files) for one, files in page.groups if len(files) > 1),
            page.counts,
            page.unhashed,
            None if page.next_position is None else make_cursor(page.next_position, name, chosen),
        )
