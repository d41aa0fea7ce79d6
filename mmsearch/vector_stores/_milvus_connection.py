"""A connection to a Milvus server: calls with time limits, and errors in our words."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

# gRPC's C++ core would write its own messages about connections to standard error.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from mmsearch.core import deadlines
from mmsearch.core.errors import (
    MMSearchError,
    ServerError,
    UnauthorizedError,
    UnreachableError,
)
from mmsearch.vector_stores._pointer import REBUILD_HINT

# Every error that it logs is raised, too.
for _name in ("pymilvus", "pymilvus.milvus_client"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

CONNECT_TIMEOUT_S = 5.0
SEARCH_TIMEOUT_S = 30.0

_RETRY_S = 3.0
_RETRY_PAUSE_S = 0.2

_COLLECTION_NOT_FOUND = 100
_UNAUTHENTICATED = 1400
_USER_HINT = (
    "Set MMSEARCH_SEARCH_TOKEN, or MMSEARCH_SEARCH_PASSWORD with a user's name in the address, to "
    "what the administrator of the server gave you."
)


class CollectionGoneError(ServerError):
    """A collection does not exist, or is not loaded."""


class MilvusConnection:
    """A connection, which is made by the first call. Safe for threads.

    Args:
        uri: Scheme, host and port, such as ``http://host:19530``.
        token: A token, or a user's name and password with a colon between them; empty for none.
    """

    def __init__(self, uri: str, token: str) -> None:
        self._uri = uri
        self._token = token
        self._lock = threading.Lock()
        self._client: MilvusClient | None = None

    def call(
        self, method: str, *args: Any, timeout_s: float = SEARCH_TIMEOUT_S, **kwargs: Any
    ) -> Any:
        """Return the result of a method of `MilvusClient`.

        Args:
            method: Name of the method.
            *args: Its arguments.
            timeout_s: Seconds that it may take; the deadline of the context may be earlier.
            **kwargs: Its keyword arguments.

        Raises:
            UnreachableError: The server does not answer.
            UnauthorizedError: It requires a valid token.
            CollectionGoneError: The collection does not exist.
            DeadlineError: The deadline of the context has passed.
            ServerError: Any other error.
        """
        left_s = deadlines.seconds_left()
        if left_s is not None:
            if left_s <= 0:
                raise deadlines.deadline_error()
            timeout_s = min(timeout_s, left_s)
        try:
            client = self._connect(timeout_s)
            return getattr(client, method)(*args, timeout=timeout_s, **kwargs)
        except (MilvusException, grpc.RpcError) as error:
            if deadlines.is_expired():
                raise deadlines.deadline_error() from error
            raise self._translate(error) from error

    def read(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return the result of a method that changes nothing; see `call`.

        A server whose node has just ended answers again from a copy elsewhere, so an error is no
        reason to give up: the call is made again at least once, within the deadline of the context.
        """
        started_at = time.monotonic()
        is_first = True
        while True:
            try:
                return self.call(method, *args, **kwargs)
            except (CollectionGoneError, UnauthorizedError):
                raise
            except ServerError:
                if not is_first and time.monotonic() - started_at > _RETRY_S:
                    raise
            is_first = False
            time.sleep(_RETRY_PAUSE_S)

    def close(self) -> None:
        """Close the connection; the next call makes another one."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connect(self, timeout_s: float) -> MilvusClient:
        with self._lock:
            if self._client is None:
                # A connection that others share would be closed with theirs.
                self._client = MilvusClient(
                    self._uri,
                    token=self._token,
                    timeout=min(timeout_s, CONNECT_TIMEOUT_S),
                    dedicated=True,
                )
            return self._client

    def _translate(self, error: MilvusException | grpc.RpcError) -> MMSearchError:
        code, message = _describe(error)
        lowered = message.lower()
        if code in (_UNAUTHENTICATED, grpc.StatusCode.UNAUTHENTICATED) or "auth check" in lowered:
            return UnauthorizedError(
                f"The Milvus server at {self._uri} does not accept this user.", _USER_HINT
            )
        if code == grpc.StatusCode.PERMISSION_DENIED or "permission deny" in lowered:
            return UnauthorizedError(
                f"The Milvus server at {self._uri} does not allow this: {_first_line(message)}",
                "Ask its administrator for the rights to create, search and drop collections.",
            )
        if (
            code == _COLLECTION_NOT_FOUND
            or "can't find collection" in lowered
            or "not loaded" in lowered
        ):
            return CollectionGoneError(
                f"The Milvus server at {self._uri} lacks a collection of this index: "
                f"{_first_line(message)}",
                REBUILD_HINT,
            )
        if isinstance(code, grpc.StatusCode) or "connect" in lowered or "timeout" in lowered:
            return UnreachableError(
                f"The Milvus server at {self._uri} does not answer.",
                "Check that it runs, and that its host and port are right.",
            )
        return ServerError(
            f"The Milvus server at {self._uri} reports an error: {_first_line(message)}",
            "Look at the server's messages.",
        )


def _describe(error: BaseException) -> tuple[object, str]:
    """Return the code and the message of an error; gRPC's, if that is its cause."""
    code, message = getattr(error, "code", None), str(getattr(error, "message", ""))
    # pymilvus raises errors from themselves.
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, grpc.RpcError):
            # The errors of calls have both methods, which the base class does not declare.
            return cause.code(), f"{message} {cause.details()}".strip()
        seen.add(id(cause))
        cause = cause.__cause__
    return code, message


def _first_line(message: str) -> str:
    return message.strip().split("\n", 1)[0][:300].rstrip(".") + "."
