"""A client of a server (``mmsearch serve``): the methods of an index, over HTTP.

Answers have types of their own: a path that was sent is for people to read, no file of this
machine, and a picture comes with links instead.
"""

from mmsearch.client.answers import RemoteHit, RemoteJob, RemotePicture, RemoteStatus
from mmsearch.client.asynchronous import AsyncClient
from mmsearch.client.blocking import Client

__all__ = ["AsyncClient", "Client", "RemoteHit", "RemoteJob", "RemotePicture", "RemoteStatus"]
