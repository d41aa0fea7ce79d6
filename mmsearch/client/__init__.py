"""HTTP client for a server (``mmsearch serve``), with the methods of an index.

The path in a result is for display, not a file on this machine; a picture has ``links`` to its
content instead.
"""

from mmsearch.client._async import AsyncClient
from mmsearch.client._sync import Client

__all__ = ["AsyncClient", "Client"]
