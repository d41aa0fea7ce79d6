"""Whether an index agrees with itself: catalog, seal, vectors, encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mmsearch.core.errors import IndexLockedError, MMSearchError, SchemaError
from mmsearch.core.reports import CheckReport, Finding, Verdict, Weight
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.factories.encoders import encoder_of
from mmsearch.factories.plugins import make_fusion, vector_index_plugin
from mmsearch.maintenance.checks import (
    check_orphans,
    check_sources,
    check_vectors,
    finding_of,
    findings_of,
)
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock

CATALOG = "catalog"

MISSING = "The catalog is missing, though there are vectors."
LOST_COMMITS = "Commits in its -wal file cannot be read."
LOST_COMMIT = (
    "The last commit in its -wal file cannot be read: it is damaged, or the power failed before"
    " that commit was acknowledged. 'mmsearch repair' brings back what can be."
)


def check(
    layout: IndexLayout,
    settings: Settings,
    say: Callable[[str], None],
    *,
    sources: bool,
    content: bool,
) -> CheckReport:
    """See `mmsearch.api.keeping.KeptIndex.check`."""
    found = check_catalog(layout)
    if CheckReport.of(found).verdict is Verdict.SOUND:
        found += _ended_by_error(_check_rest(layout, settings, say, sources, content))
        found = _still_true(layout, found)
    return CheckReport.of(found)


def check_catalog(layout: IndexLayout, *, seal: bool = True) -> list[Finding]:
    """Return what is wrong with the catalog, or could not be checked; nothing is written.

    Args:
        layout: The index.
        seal: Compare the catalog with its seal, too.
    """
    found: list[Finding] = []
    try:
        layout.catalog.stat()
    except FileNotFoundError:
        return [Finding(Weight.DAMAGE, CATALOG, MISSING)]
    except OSError as error:
        return [finding_of(CATALOG, error)]
    try:
        with catalogs.one_state(layout):
            pass
    except SchemaError as error:
        # Another version may seal its catalogs otherwise.
        return [finding_of(CATALOG, error)]
    except Exception:  # noqa: BLE001, S110 - the steps below find it again
        pass
    if seal:
        found += _ended_by_error(_check_seal(layout))
    found += findings_of(CATALOG, _contradictions(layout))
    return found


def _contradictions(layout: IndexLayout) -> Iterator[str]:
    with catalogs.one_state(layout) as catalog:
        yield from catalog.findings()


def _check_seal(layout: IndexLayout) -> Iterator[Finding]:
    if catalogs.is_sealed(layout):
        return
    message = (
        "A writer is at work, or the last one was killed: the catalog cannot be "
        "compared with a checksum, only with itself."
    )
    yield Finding(Weight.NOTE, CATALOG, message)
    lost = _count_lost_commits(layout)
    if lost > 1:
        yield Finding(Weight.DAMAGE, CATALOG, LOST_COMMITS)
    elif lost:
        yield Finding(Weight.UNKNOWN, CATALOG, LOST_COMMIT)


def _count_lost_commits(layout: IndexLayout) -> int:
    try:
        with writer_lock(layout):
            return catalogs.count_lost_commits(layout)
    except IndexLockedError:
        return 0
    except OSError:
        # Nobody writes where it is forbidden.
        return catalogs.count_lost_commits(layout)


def _check_rest(
    layout: IndexLayout,
    settings: Settings,
    say: Callable[[str], None],
    sources: bool,
    content: bool,
) -> Iterator[Finding]:
    with catalogs.one_state(layout) as state:
        identity = state.identity()
        fusion = None
        try:
            fusion = make_fusion(identity.fusion) if identity else None
        except MMSearchError as error:
            yield finding_of(CATALOG, error)
        yield from check_vectors(layout, state, vector_index_plugin, fusion)
        yield from check_orphans(layout, state.referenced_files())
    if identity is not None:
        try:
            encoder_of(identity, settings, say)
        except MMSearchError as error:
            message = f"The index cannot be searched or filled here: {error.message}"
            yield Finding(Weight.NOTE, "encoder", message)
    if sources:
        # Reading pictures takes long, and a state that is held makes a writer's files grow.
        with catalogs.reading(layout) as catalog:
            yield from check_sources(catalog, content=content)


def _ended_by_error(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings, and one for the error that ends them, if one does."""
    try:
        yield from findings
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing by itself
        yield finding_of(CATALOG, error)


def _still_true(layout: IndexLayout, found: list[Finding]) -> list[Finding]:
    """Leave out what a writer has replaced since the catalog was read."""
    try:
        with catalogs.reading(layout) as catalog:
            now = catalog.referenced_files()
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing by itself
        return [*found, finding_of(CATALOG, error)]
    files = ("segments/", "ann/")
    return [
        finding
        for finding in found
        if not finding.part.startswith(files)
        or (finding.part in now) == (finding.weight is not Weight.NOTE)
    ]
