"""Logs of a process: one JSON object a line on stderr, ours through structlog, the libraries' through logging.

Invariant: what cannot be written (the disk is full, the pipe is closed) is lost, and stops nobody.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

import structlog


class _Forgiving:
    """A stream that takes what it can."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def configure(quiet: Mapping[str, int] | None = None) -> None:
    """Set it up; `quiet` is the least level that is told of a library, by its logger's name (else WARNING)."""
    stream = _Forgiving(sys.stderr)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(stream),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name, level in (quiet or {}).items():
        logging.getLogger(name).setLevel(level)
