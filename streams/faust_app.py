"""The Faust application: consumer group, streams and flow control; it knows no rule of ours.

Faust's tables and acknowledgements are not used: the changelog and the offsets are ours (`streams.changelog`).
"""

import asyncio
import os
import ssl
from typing import Any

import faust
import faust.tables
from faust.transport.drivers.aiokafka import Consumer
from yarl import URL

from weir import kafka
from weir.settings import Kafka, Settings

SESSION_SECONDS = 6.0
HEARTBEAT_SECONDS = 1.0
TURN = 50
"""Messages delivered before others have their turn in the loop."""


class _NoTables(faust.tables.TableManager):
    """Faust waits a second for tables to be registered: we have none."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class _Consumer(Consumer):
    """Faust's own way of delivering serves acknowledgements, which we do not use, and takes two tasks a message."""

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await asyncio.sleep(0)
                delivered = 0
                async for _, message in self.getmany(timeout=1.0):
                    await self.callback(message)
                    delivered += 1
                    if delivered % TURN == 0:
                        await asyncio.sleep(0)
        except (asyncio.CancelledError, *self.consumer_stopped_errors):  # type: ignore[misc]
            if not self.app.should_stop:
                raise


class _App(faust.App):
    def _create_directories(self) -> None:
        """Faust makes a folder for its tables: ours would only be left behind by a kill."""


def make(settings: Settings, name: str) -> faust.App:
    """The application of the worker `name`."""
    app = _App(
        settings.streams.group,
        broker=[URL(f"kafka://{server.strip()}") for server in settings.kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(settings.kafka),
        web_enabled=False,
        TableManager=_NoTables,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_wait_empty=False,
        stream_buffer_maxsize=4096,
        consumer_auto_offset_reset="earliest",
        # A static member: its partitions wait for it while it restarts, up to the session's time-out.
        consumer_group_instance_id=name,
        broker_session_timeout=SESSION_SECONDS,
        broker_heartbeat_interval=HEARTBEAT_SECONDS,
        broker_rebalance_timeout=60.0,
        broker_max_poll_records=500,
    )
    app.transport.Consumer = _Consumer  # type: ignore[misc]
    return app


def _credentials(settings: Kafka) -> faust.types.auth.CredentialsT | None:
    context = _ssl_context(settings) if settings.security_protocol.endswith("SSL") else None
    if settings.security_protocol.startswith("SASL_"):
        return faust.SASLCredentials(
            username=settings.sasl_username,
            password=os.environ.get(kafka.SASL_PASSWORD, ""),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


def _ssl_context(settings: Kafka) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ssl_ca_location or None)
    if settings.ssl_certificate_location:
        context.load_cert_chain(
            settings.ssl_certificate_location,
            settings.ssl_key_location or None,
            os.environ.get(kafka.SSL_KEY_PASSWORD),
        )
    return context
