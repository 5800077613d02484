"""Logs of a worker: one JSON object a line on stderr, ours through structlog, the libraries' through logging."""

import logging
import sys

import structlog

_QUIET = {"aiokafka": logging.CRITICAL, "faust": logging.ERROR, "mode": logging.ERROR, "asyncio": logging.ERROR}
"""What reaches us otherwise too (aiokafka tells of each lost connection with a traceback, a thousand in an outage)."""


def configure() -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
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
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
