"""Messages of an index in the log of Python, under the name ``mmsearch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmsearch.core.reports import CaptionsReport


def log_message(message: str) -> None:
    """Log a message of an index that no program shows itself."""
    import logging  # noqa: PLC0415 - the command line prints messages itself

    logging.getLogger("mmsearch").info("%s", message)


def log_captions(report: CaptionsReport) -> None:
    """Log how the rows of a caption table matched pictures; a warning if none did."""
    import logging  # noqa: PLC0415 - searches need no log

    level = logging.WARNING if report.rows and not report.matched else logging.INFO
    for sentence in report.describe():
        logging.getLogger("mmsearch").log(level, "%s", sentence)
