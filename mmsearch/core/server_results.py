"""Contents, sources and jobs of an index, as a server reports them, with their JSON form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from mmsearch.core.display import display_path
from mmsearch.core.records import RECORDS_KIND, SourceSummary
from mmsearch.core.results import Hit, IndexStatus, JsonObject
from mmsearch.core.understood import Understood


class ServedHits(list[Hit]):
    """Hits of a search by a server.

    Args:
        hits: The hits.
        understood: See `SearchResult`.
    """

    def __init__(self, hits: Iterable[Hit] = (), understood: Understood | None = None) -> None:
        super().__init__(hits)
        self.understood = understood


@dataclass(frozen=True)
class IndexSummary(JsonObject):
    """Contents and status of an index, as a server reports them.

    Attributes:
        name: Name of the index.
        pictures: Number of distinct pictures that can be found.
        files: Number of paths of those pictures.
        failures: Number of files that could not be read.
        generation: Generation number; it increases with every change.
        encoder: Name of the encoder; None before the first run.
        fusion: Name of the fusion; None before the first run.
        vector_index: Name of the vector index plugin; None if only segments are searched.
        sources: Names of the sources that a job can update: all but pictures that a program added.
        waiting: Number of pictures in segments that are not yet in the vector index.
        bytes_by_part: Size on disk of each part, in bytes.
        last_run: The latest run; None before the first run.
        derived: The work of each enricher, with the fields of
            `mmsearch.core.derived.DerivedSummary`: ``enricher``, ``done``, ``failed``, ``left``,
            ``left_s`` and others.
    """

    name: str
    pictures: int
    files: int
    failures: int
    generation: int
    encoder: str | None
    fusion: str | None
    vector_index: str | None
    sources: tuple[str, ...]
    waiting: int
    bytes_by_part: Mapping[str, int]
    last_run: Mapping[str, Any] | None
    derived: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_status(cls, status: IndexStatus) -> IndexSummary:
        """Return the summary of a status."""
        identity = status.identity
        return cls(
            name=status.name,
            pictures=status.pictures,
            files=status.files,
            failures=len(status.failures),
            generation=status.generation,
            encoder=identity.encoder.name if identity else None,
            fusion=identity.fusion.name if identity else None,
            vector_index=status.built.plugin_name if status.built else None,
            sources=tuple(source.name for source in status.sources if source.kind != RECORDS_KIND),
            waiting=status.waiting,
            bytes_by_part=dict(status.bytes_by_part),
            last_run=asdict(status.last_run) if status.last_run else None,
            derived=tuple(asdict(work) for work in status.derived),
        )

    @classmethod
    def _parse(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return super()._parse(values) | {
            "sources": tuple(values["sources"]),
            "derived": tuple(values.get("derived", ())),
        }


@dataclass(frozen=True)
class SourceStatus(JsonObject):
    """A source of the pictures of an index, as a server reports it.

    Attributes:
        name: Name of the source, which a job can update.
        kind: ``folder``, ``archive``, ``table``, ``remote``, ``dataset``, or ``records`` for
            pictures that a program added, which no job updates.
        place: Path or URI, for display; empty for records.
        pictures: Number of its files or items that have a picture.
        last_run: When the last run over it ended, in ISO 8601; None if no run has.
        outcome: How it ended: ``finished``, ``interrupted`` or ``failed``; None without a run.
    """

    name: str
    kind: str
    place: str
    pictures: int
    last_run: str | None
    outcome: str | None

    @classmethod
    def from_summary(cls, source: SourceSummary) -> SourceStatus:
        """Return the status of a source."""
        return cls(
            name=source.name,
            kind=source.kind,
            place=display_path(source.uri),
            pictures=source.pictures,
            last_run=source.last_run,
            outcome=source.outcome,
        )


@dataclass(frozen=True)
class JobStatus(JsonObject):
    """State of an indexing job of a server.

    Attributes:
        id: Id of the job.
        index: Name of the index.
        source: Name of the source that is updated; None for all sources.
        state: ``running``, ``finished``, ``interrupted`` or ``failed``.
        phase: ``scan``, ``encode``, ``texts`` or ``build`` while the job runs, or the name of an
            enricher, such as ``ocr``.
        done: Number of files processed so far.
        total: Number of files to process; None while it is unknown.
        report: Number of files by outcome, see `IndexReport.counts`, with ``skipped`` (files that
            are not read), ``unnoticed`` and ``described`` (contents of which enrichers made
            texts), of all sources together; None before the job ends.
        error: Error message of a failed job.
        source_errors: Error messages of the sources that could not be read, by name; the job has
            updated the others.
    """

    id: str
    index: str
    source: str | None
    state: Literal["running", "finished", "interrupted", "failed"]
    phase: str | None
    done: int
    total: int | None
    report: Mapping[str, int] | None
    error: str | None
    source_errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """True while the job runs."""
        return self.state == "running"
