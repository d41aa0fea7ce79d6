"""Server-sent events of a job."""

from __future__ import annotations

import json

from mmsearch.client._endpoint import Endpoint
from mmsearch.client.models import parse_answer
from mmsearch.core.errors import ServerError, UnreachableError
from mmsearch.core.results import JobStatus


class JobEvents:
    """A parser that reads the events of a job line by line.

    Args:
        endpoint: Address of the server, for error messages.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._data: list[str] = []
        self._is_running = True

    def read(self, line: str) -> JobStatus | None:
        """Return the current state of the job if the line ends an event, else None.

        Args:
            line: The line without its line ending.

        Raises:
            ServerError: The event does not contain a job.
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
            raise ServerError("The server sent an event that is not JSON.") from error
        job = parse_answer(JobStatus.from_dict, answer)
        self._is_running = job.running
        return job

    def finish(self) -> None:
        """Check at the end of the stream that the job has ended.

        Raises:
            UnreachableError: The job has not ended.
        """
        if self._is_running:
            raise UnreachableError(
                self._endpoint.unreachable_message(
                    "it closed the event stream of a job that has not ended"
                ),
                "Query the job again, or restart it: everything that was committed is kept.",
            )
