"""The public interface. The command line uses nothing else."""

from mmsearch.api.index import Index
from mmsearch.api.models import list_models, open_model, use_model
from mmsearch.api.opening import list_indexes, open_index, restore_index
from mmsearch.api.queries import parse_filters, parse_query

__all__ = [
    "Index",
    "list_indexes",
    "list_models",
    "open_index",
    "open_model",
    "parse_filters",
    "parse_query",
    "restore_index",
    "use_model",
]
