"""HTTP client for a server (``mmsearch serve``), with the methods of an index.

The results have their own types: the path in a result is for display, not a file on this machine,
and a picture has links to its content instead.
"""

from mmsearch.client._async import AsyncClient
from mmsearch.client._sync import Client
from mmsearch.client.models import RemoteHit, RemoteJob, RemotePicture, RemoteStatus

__all__ = ["AsyncClient", "Client", "RemoteHit", "RemoteJob", "RemotePicture", "RemoteStatus"]
