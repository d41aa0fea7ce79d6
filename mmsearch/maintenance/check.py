"""Consistency check of an index: catalog, checksum, vectors and encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from mmsearch.core.errors import IndexLockedError, MMSearchError, SchemaError
from mmsearch.core.reports import CheckReport, Finding, Severity, Verdict
from mmsearch.core.settings import Settings
from mmsearch.factories import catalogs
from mmsearch.factories.encoders import load_index_encoder
from mmsearch.factories.plugins import load_vector_index_plugin, make_fusion
from mmsearch.maintenance.checks import (
    check_orphans,
    check_sources,
    check_vectors,
    finding_from_error,
    make_findings,
)
from mmsearch.storage.layout import IndexLayout
from mmsearch.storage.lock import writer_lock

CATALOG = "catalog"

MISSING_CATALOG_MESSAGE = "The catalog is missing, but its vectors are there."
LOST_COMMITS_MESSAGE = "Commits in its -wal file cannot be read."
LOST_LAST_COMMIT_MESSAGE = (
    "The last commit in its -wal file cannot be read: it is damaged, or the power failed before"
    " that commit was acknowledged. Run 'mmsearch repair' to recover what can be read."
)


def check(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    *,
    sources: bool,
    content: bool,
) -> CheckReport:
    """Check an index for damage. See `mmsearch.api.index.Index.check`."""
    findings = check_catalog(layout)
    if CheckReport.from_findings(findings).verdict is Verdict.SOUND:
        findings += _catch_errors(_check_contents(layout, settings, on_message, sources, content))
        findings = _drop_outdated(layout, findings)
    return CheckReport.from_findings(findings)


def check_catalog(layout: IndexLayout, *, compare_checksum: bool = True) -> list[Finding]:
    """Return the damage to the catalog, and what could not be checked; nothing is written.

    Args:
        layout: File layout of the index.
        compare_checksum: Also compare the catalog with its checksum.
    """
    findings: list[Finding] = []
    try:
        layout.catalog.stat()
    except FileNotFoundError:
        return [Finding(Severity.DAMAGE, CATALOG, MISSING_CATALOG_MESSAGE)]
    except OSError as error:
        return [finding_from_error(CATALOG, error)]
    try:
        with catalogs.open_snapshot(layout):
            pass
    except SchemaError as error:
        # Another version may compute checksums differently.
        return [finding_from_error(CATALOG, error)]
    except Exception:  # noqa: BLE001, S110 - the checks below report it
        pass
    if compare_checksum:
        findings += _catch_errors(_check_catalog_checksum(layout))
    findings += make_findings(CATALOG, _catalog_findings(layout))
    return findings


def _catalog_findings(layout: IndexLayout) -> Iterator[str]:
    with catalogs.open_snapshot(layout) as catalog:
        yield from catalog.find_problems()


def _check_catalog_checksum(layout: IndexLayout) -> Iterator[Finding]:
    if catalogs.is_checksum_valid(layout):
        return
    message = (
        "A writer is active, or the last one was killed: the catalog has no valid checksum now. "
        "Only its internal consistency was checked."
    )
    yield Finding(Severity.NOTE, CATALOG, message)
    num_lost = _count_lost_commits(layout)
    if num_lost > 1:
        yield Finding(Severity.DAMAGE, CATALOG, LOST_COMMITS_MESSAGE)
    elif num_lost:
        yield Finding(Severity.UNKNOWN, CATALOG, LOST_LAST_COMMIT_MESSAGE)


def _count_lost_commits(layout: IndexLayout) -> int:
    try:
        with writer_lock(layout):
            return catalogs.count_lost_commits(layout)
    except IndexLockedError:
        return 0
    except OSError:
        # The lock cannot be taken in a read-only folder, and nobody can write there.
        return catalogs.count_lost_commits(layout)


def _check_contents(
    layout: IndexLayout,
    settings: Settings,
    on_message: Callable[[str], None],
    sources: bool,
    content: bool,
) -> Iterator[Finding]:
    with catalogs.open_snapshot(layout) as state:
        identity = state.identity()
        fusion = None
        try:
            fusion = make_fusion(identity.fusion) if identity else None
        except MMSearchError as error:
            yield finding_from_error(CATALOG, error)
        yield from check_vectors(layout, state, load_vector_index_plugin, fusion)
        yield from check_orphans(layout, state.referenced_files())
    if identity is not None:
        try:
            load_index_encoder(identity, settings, on_message)
        except MMSearchError as error:
            message = f"The index cannot be searched or extended on this machine: {error.message}"
            yield Finding(Severity.NOTE, "encoder", message)
    if sources:
        # Reading pictures takes long, and an open snapshot lets the writer's -wal file grow.
        with catalogs.open_read(layout) as catalog:
            yield from check_sources(catalog, content=content)


def _catch_errors(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings, and a finding for the exception that ends them, if there is one."""
    try:
        yield from findings
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing by itself
        yield finding_from_error(CATALOG, error)


def _drop_outdated(layout: IndexLayout, findings: list[Finding]) -> list[Finding]:
    """Return the findings without those that a writer has outdated since the catalog was read."""
    try:
        with catalogs.open_read(layout) as catalog:
            referenced = catalog.referenced_files()
    except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing by itself
        return [*findings, finding_from_error(CATALOG, error)]
    prefixes = ("segments/", "ann/")
    return [
        finding
        for finding in findings
        if not finding.part.startswith(prefixes)
        or (finding.part in referenced) == (finding.weight is not Severity.NOTE)
    ]
