"""A client of a server (``mmsearch serve``): the methods of an index, over HTTP.

Answers have types of their own: a path that was sent is for people to read, no file of this
machine, and a picture comes with links instead.
"""

from mmsearch.client._async import AsyncClient
from mmsearch.client._sync import Client
from mmsearch.client.models import RemoteHit, RemoteJob, RemotePicture, RemoteStatus

__all__ = ["AsyncClient", "Client", "RemoteHit", "RemoteJob", "RemotePicture", "RemoteStatus"]
