"""`weir streams`: the process around a worker.

It ends with status 0 after SIGTERM or SIGINT, all written; with 70 when what is in memory may be ahead of Kafka, or
when it cannot go on: its supervisor starts it anew, and it begins where its changelog ends.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from typing import NoReturn

import structlog
import uvloop
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, TopicMetadata

from streams.worker import Worker
from weir import kafka, logs, topics
from weir.settings import Settings

log = structlog.get_logger()

DIED = 70
_QUIET = {"aiokafka": logging.CRITICAL, "faust": logging.ERROR, "mode": logging.ERROR, "asyncio": logging.ERROR}
"""What reaches us otherwise too (aiokafka tells of each lost connection with a traceback, a thousand in an outage)."""


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT; ends the process with status 70 if Faust gives up."""
    logs.configure(_QUIET)
    name = settings.streams.name or socket.gethostname()
    sys.setswitchinterval(0.001)  # the threads that write must not hold the loop back for long
    gc.set_threshold(50_000, 20, 100)  # windows are many, live long and hold no cycles
    threading.excepthook = lambda failed: die(f"thread {failed.thread and failed.thread.name}: {failed.exc_value!r}")
    wait_for_kafka(settings)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_main(settings, name))


def wait_for_kafka(settings: Settings) -> None:
    """Return when a broker answers and has our topics: a start is too dear to be tried again and again."""
    client = AdminClient({**kafka.client(settings.kafka)})
    told = ""
    while trouble := _trouble(client):
        if trouble != told:
            log.warning("waiting for Kafka", servers=settings.kafka.bootstrap_servers, trouble=trouble)
        told = trouble
        time.sleep(0.2)


def _trouble(client: AdminClient) -> str:
    """Why we cannot begin; empty if we can."""
    try:
        there = client.list_topics(timeout=2).topics
    except KafkaException as error:
        return str(error)
    wrong = [each.name for each in topics.ALL if each.name not in there or not _fits(each, there[each.name])]
    return f"missing or with other partitions (weir topics create): {', '.join(wrong)}" if wrong else ""


def _fits(ours: topics.Topic, theirs: TopicMetadata) -> bool:
    return len(theirs.partitions) == ours.partitions


def die(reason: str) -> NoReturn:
    """End at once: nothing that is in memory only may be written any more."""
    log.error("cannot go on", reason=reason)
    os._exit(DIED)


async def _main(settings: Settings, name: str) -> None:
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    worker = Worker(settings, name, die)
    await worker.start()
    waits = [asyncio.create_task(asked.wait()), asyncio.create_task(worker.app.wait_until_stopped())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if not asked.is_set():
        die(f"Faust gave up: {worker.app.crash_reason!r}")
    await worker.stop()
