"""Find pictures by describing them.

::

    import mmsearch

    with mmsearch.open_index("holiday") as index:
        index.add_folder("~/Pictures")
        for hit in index.search("a red car", k=5):
            print(f"{hit.score:.3f}", hit.path)

The names below are loaded on first use: importing mmsearch does not import torch or FAISS.
"""

from importlib import import_module

# Same as typing.TYPE_CHECKING: a command that a server answers avoids importing typing.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from mmsearch.api import (
        FederatedIndex,
        Index,
        export_model,
        import_model,
        init_index,
        list_indexes,
        list_models,
        migrate_index,
        open_index,
        open_indexes,
        open_model,
        parse_filters,
        parse_query,
        plan_pull,
        pull_model,
        restore_index,
        save_adapter,
        trust_index,
        use_model,
    )
    from mmsearch.client import AsyncClient, Client
    from mmsearch.core.errors import DecodeError, MMSearchError, StateError, UsageError
    from mmsearch.core.facets import Facet, Facets, FacetValue
    from mmsearch.core.filters import Filters
    from mmsearch.core.query import Query, SearchRequest, Term
    from mmsearch.core.reports import (
        CalibrationReport,
        CheckReport,
        CompactReport,
        CopyReport,
        ExportReport,
        Finding,
        ImportReport,
        IndexReport,
        InitReport,
        MigrationReport,
        ReindexReport,
        RepairReport,
        Verdict,
    )
    from mmsearch.core.results import Hit, IndexStatus, Progress, SearchResult
    from mmsearch.core.settings import Settings, load_settings
    from mmsearch.core.speech import Transcript
    from mmsearch.core.types import Text

__version__ = "0.1.0"

_HOMES = {
    "mmsearch.api": (
        "FederatedIndex",
        "Index",
        "export_model",
        "import_model",
        "init_index",
        "list_indexes",
        "list_models",
        "migrate_index",
        "open_index",
        "open_indexes",
        "open_model",
        "parse_filters",
        "parse_query",
        "plan_pull",
        "pull_model",
        "restore_index",
        "save_adapter",
        "trust_index",
        "use_model",
    ),
    "mmsearch.client": ("AsyncClient", "Client"),
    "mmsearch.core.errors": ("DecodeError", "MMSearchError", "StateError", "UsageError"),
    "mmsearch.core.facets": ("Facet", "FacetValue", "Facets"),
    "mmsearch.core.filters": ("Filters",),
    "mmsearch.core.query": ("Query", "SearchRequest", "Term"),
    "mmsearch.core.reports": (
        "CalibrationReport",
        "CheckReport",
        "CompactReport",
        "CopyReport",
        "ExportReport",
        "Finding",
        "ImportReport",
        "IndexReport",
        "InitReport",
        "MigrationReport",
        "ReindexReport",
        "RepairReport",
        "Verdict",
    ),
    "mmsearch.core.results": ("Hit", "IndexStatus", "Notice", "Progress", "SearchResult"),
    "mmsearch.core.settings": ("Settings", "load_settings"),
    "mmsearch.core.speech": ("Transcript",),
    "mmsearch.core.types": ("Text",),
}

__all__ = [
    "AsyncClient",
    "CalibrationReport",
    "CheckReport",
    "Client",
    "CompactReport",
    "CopyReport",
    "DecodeError",
    "ExportReport",
    "Facet",
    "FacetValue",
    "Facets",
    "FederatedIndex",
    "Filters",
    "Finding",
    "Hit",
    "ImportReport",
    "Index",
    "IndexReport",
    "IndexStatus",
    "InitReport",
    "MMSearchError",
    "MigrationReport",
    "Notice",
    "Progress",
    "Query",
    "ReindexReport",
    "RepairReport",
    "SearchRequest",
    "SearchResult",
    "Settings",
    "StateError",
    "Term",
    "Text",
    "Transcript",
    "UsageError",
    "Verdict",
    "__version__",
    "export_model",
    "import_model",
    "init_index",
    "list_indexes",
    "list_models",
    "load_settings",
    "migrate_index",
    "open_index",
    "open_indexes",
    "open_model",
    "parse_filters",
    "parse_query",
    "plan_pull",
    "pull_model",
    "restore_index",
    "save_adapter",
    "trust_index",
    "use_model",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
