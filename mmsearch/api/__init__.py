"""Public Python API. The command line uses nothing else.

The names are loaded on first use, because help and error messages do not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.api.federation import FederatedIndex
    from mmsearch.api.index import Index
    from mmsearch.api.models import (
        export_model,
        find_pullable_model,
        import_model,
        list_models,
        open_model,
        plan_pull,
        pull_model,
        save_adapter,
        use_model,
    )
    from mmsearch.api.open import (
        init_index,
        list_indexes,
        migrate_index,
        open_image_loader,
        open_index,
        open_indexes,
        open_listener,
        restore_index,
        trust_index,
    )
    from mmsearch.api.parsing import is_folder, parse_choices, parse_filters, parse_query

_EXPORTS = {
    "index": ("Index",),
    "models": (
        "export_model",
        "find_pullable_model",
        "import_model",
        "list_models",
        "open_model",
        "plan_pull",
        "pull_model",
        "save_adapter",
        "use_model",
    ),
    "open": (
        "init_index",
        "list_indexes",
        "migrate_index",
        "open_image_loader",
        "open_index",
        "open_indexes",
        "open_listener",
        "restore_index",
        "trust_index",
    ),
    "federation": ("FederatedIndex",),
    "parsing": ("is_folder", "parse_choices", "parse_filters", "parse_query"),
}

__all__ = [
    "FederatedIndex",
    "Index",
    "export_model",
    "find_pullable_model",
    "import_model",
    "init_index",
    "is_folder",
    "list_indexes",
    "list_models",
    "migrate_index",
    "open_image_loader",
    "open_index",
    "open_indexes",
    "open_listener",
    "open_model",
    "parse_choices",
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
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(import_module(f"mmsearch.api.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
