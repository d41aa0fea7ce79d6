"""Server-sent events of a job."""

from __future__ import annotations

import json

from mmsearch.client._endpoint import Endpoint
from mmsearch.client.models import RemoteJob, parse_answer, parse_job
from mmsearch.core.errors import ServerError, UnreachableError


class JobEvents:
    """Reads the events of a job, line by line.

    Args:
        endpoint: Of the server, to be named in errors.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._data: list[str] = []
        self._is_running = True

    def read(self, line: str) -> RemoteJob | None:
        """A job as it is now, if a line ends an event.

        Args:
            line: Without its end.

        Raises:
            ServerError: What the event says is no job.
        """
        if line:
            name, _, value = line.partition(":")
            if name == "data":
                self._data.append(value.removeprefix(" "))
            return None
        if not self._data:
            return None
        data, self._data = "\n".join(self._data), []
        try:
            answer = json.loads(data)
        except ValueError as error:
            raise ServerError("An event of the server is no JSON.") from error
        job = parse_answer(parse_job, answer)
        self._is_running = job.running
        return job

    def finish(self) -> None:
        """Nothing more comes.

        Raises:
            UnreachableError: The job has not ended.
        """
        if self._is_running:
            raise UnreachableError(
                self._endpoint.unreachable_message(
                    "it stopped telling of a job that has not ended"
                ),
                "Ask for the job again, or start it once more: what was committed stays.",
            )
