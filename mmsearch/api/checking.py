"""Whether an index agrees with itself: catalog, seal, vectors, encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mmsearch.assembly import catalogs
from mmsearch.assembly.models import encoder_of
from mmsearch.assembly.parts import make_fusion, vector_index_plugin
from mmsearch.core.catalog import Catalog
from mmsearch.core.errors import EncoderMismatchError, IndexLockedError, MMSearchError
from mmsearch.core.layout import IndexLayout
from mmsearch.core.locking import writer_lock
from mmsearch.core.settings import Settings
from mmsearch.core.types import FusionSpec
from mmsearch.core.upkeep import Finding, Weight
from mmsearch.engine.check import check_orphans, check_sources, check_vectors

LOST_COMMITS = (
    "The end of its -wal file cannot be read: it is damaged, or the power failed before that commit"
    " was acknowledged."
)


def check(
    layout: IndexLayout,
    settings: Settings,
    say: Callable[[str], None],
    *,
    sources: bool,
    content: bool,
) -> list[Finding]:
    """See `mmsearch.api.keeping.KeptIndex.check`."""
    if not layout.exists():
        message = "The catalog is missing, though there are vectors."
        return [Finding(Weight.DAMAGE, "catalog", message)]
    found = list(_check_seal(layout))
    # What damage makes of values may break anything that reads them.
    try:
        with catalogs.private_copy(layout) as copy:
            found += (Finding(Weight.DAMAGE, "catalog", said) for said in copy.findings())
            if any(finding.weight is Weight.DAMAGE for finding in found):
                return found
            found += _check_parts(layout, copy, settings, say)
            if sources:
                found += check_sources(copy, content=content)
    except MMSearchError as error:
        return [*found, Finding(Weight.DAMAGE, "catalog", error.message)]
    except Exception as error:  # noqa: BLE001
        message = f"It cannot be read: {type(error).__name__}: {error}."
        return [*found, Finding(Weight.DAMAGE, "catalog", message)]
    return _still_true(layout, found)


def _check_seal(layout: IndexLayout) -> Iterator[Finding]:
    try:
        if not catalogs.is_sealed(layout):
            message = (
                "A writer is at work, or the last one was killed: the catalog cannot be "
                "compared with a checksum, only with itself."
            )
            yield Finding(Weight.NOTE, "catalog", message)
            if _has_lost_commits(layout):
                yield Finding(Weight.DAMAGE, "catalog", LOST_COMMITS)
    except (MMSearchError, OSError) as error:
        yield Finding(Weight.DAMAGE, "catalog", str(getattr(error, "message", error)))


def _has_lost_commits(layout: IndexLayout) -> bool:
    try:
        with writer_lock(layout):
            return catalogs.has_lost_commits(layout)
    except IndexLockedError:
        return False
    except OSError:
        # Nobody writes where it is forbidden.
        return catalogs.has_lost_commits(layout)


def _check_parts(
    layout: IndexLayout, copy: Catalog, settings: Settings, say: Callable[[str], None]
) -> Iterator[Finding]:
    identity = copy.identity()
    fusion = make_fusion(identity.fusion if identity else FusionSpec())
    yield from check_vectors(layout, copy, vector_index_plugin, fusion)
    yield from check_orphans(layout, copy.referenced_files())
    if identity is None:
        return
    try:
        encoder_of(identity, settings, say)
    except EncoderMismatchError as error:
        yield Finding(Weight.DAMAGE, "encoder", error.message)
    except MMSearchError as error:
        yield Finding(Weight.NOTE, "encoder", f"It cannot be had here: {error.message}")


def _still_true(layout: IndexLayout, found: list[Finding]) -> list[Finding]:
    """Without what a writer has replaced since the copy was made."""
    with catalogs.reading(layout) as catalog:
        now = catalog.referenced_files()
    files = ("segments/", "ann/")
    return [
        finding
        for finding in found
        if not finding.part.startswith(files)
        or (finding.part in now) == (finding.weight is Weight.DAMAGE)
    ]
