"""The public interface. The command line uses nothing else."""

from mmsearch.api.index import Index, list_indexes, open_index
from mmsearch.api.models import list_models, open_model, use_model

__all__ = ["Index", "list_indexes", "list_models", "open_index", "open_model", "use_model"]
