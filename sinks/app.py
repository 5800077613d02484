"""`weir sink`: the process around a sink.

It ends with status 0 after SIGTERM or SIGINT, all that was stored committed; with 1 if the history cannot be used at
all: another process has its directory, its schema is newer than we are; with 2 if it refuses our login.
"""

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from sinks import metrics, schema
from sinks.clickhouse import ClickHouse
from sinks.sink import Sink
from sinks.store import LOGIN_REFUSED, Store, StoreError, for_logs
from weir import logs, systemd
from weir.cli.output import NOT_DONE, USAGE, CommandError
from weir.settings import History, Settings

log = structlog.get_logger(__name__)


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises CommandError for what prevents its start."""
    logs.configure()
    gc.set_threshold(100_000, 20, 100)  # rows are many, live short and hold no cycles
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with ExitStack() as stack:
        sink = _started(settings, stack, stopping)
        if sink is not None:
            systemd.notify("READY=1")
            log.info("storing", history=settings.history.server or str(settings.history.path))
            sink.run()
            systemd.notify("STOPPING=1")


def _started(settings: Settings, stack: ExitStack, stopping: threading.Event) -> Sink | None:
    """A sink on its history, both closed with the stack; None if we are to stop before. Raises CommandError."""
    history = settings.history
    try:
        store = stack.enter_context(opened(history))
        if not _migrated(store, history.keep_days, stopping):
            return None
        sink = Sink(settings, store, stopping.is_set)
        stack.callback(sink.close)
        if history.metrics:
            metrics.serve(history.metrics, metrics.SinkCollector(sink.counts, partial(_now, sink)))
    except StoreError as error:
        if error.code in LOGIN_REFUSED:
            raise CommandError(f"the history refuses our login: {error}", USAGE) from None
        raise CommandError(str(error), NOT_DONE) from None
    except (schema.SchemaError, OSError) as error:
        raise CommandError(str(error), NOT_DONE) from None
    return sink


def _now(sink: Sink) -> dict[str, float]:
    return {
        "lag": sink.lag,
        "uncommitted_events": sink.uncommitted,
        "gaps": sink.source.gaps,
        "last_commit_timestamp_seconds": sink.last_commit,
    }


@contextmanager
def opened(history: History) -> Iterator[Store]:
    """The store that the settings name; an embedded one answers queries of others too."""
    if history.server:
        with ClickHouse(history) as server:
            yield server
        return
    from sinks.embedded import Embedded
    from sinks.query_server import QueryServer

    with Embedded(history.path, history.database) as embedded:
        queries = QueryServer(history.listen, embedded)
        try:
            yield embedded
        finally:
            queries.stop()


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, StoreError) and error.code not in LOGIN_REFUSED


def _migrated(store: Store, keep_days: int, stopping: threading.Event) -> bool:
    """Bring the schema to our version as soon as the store answers; False if we are to stop before.

    Raises SchemaError, and StoreError for a login that is refused: waiting mends neither.
    """

    def failed(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if state.attempt_number in (1, 5) or state.attempt_number % 20 == 0:
            log.warning("waiting for the history", trouble=for_logs(error) if error else "")

    def sleep(seconds: float) -> None:
        stopping.wait(seconds)

    for attempt in Retrying(
        retry=retry_if_exception(_may_pass),
        wait=wait_exponential(multiplier=0.2, max=10) + wait_random(0, 1),
        sleep=sleep,
        before_sleep=failed,
        reraise=True,
    ):
        if stopping.is_set():
            return False
        with attempt:
            if isinstance(store, ClickHouse):
                store.create_database()
            schema.migrate(store, keep_days)
    return True
