"""Apache Kafka as one KRaft node (broker and controller in one JVM), run from a folder of jars.

Invariants
- Port and data outlive stop(), kill() and start(): a restarted broker is the same broker.
- All topics are open to everybody until deny_writes(); there is no super user, so a denial reaches our own clients.

`python -m fleet.kafka` writes the JVM's class archive beside the jars, once; with it the broker starts twice as fast.
"""

import os
import shutil
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from fleet.process import Process, free_port, tail, wait_until

CLUSTER_ID = "d2Vpci1mbGVldC1vbmUtMQ"  # any 16 bytes in base64
# Serial collector and first-tier compiler: the cheapest broker for its first minutes, which is all it ever lives here.
JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
START_SECONDS = 60.0

LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1}: %m%n%ex
"""


def default_libs() -> Path:
    """Folder of Kafka's jars: $WEIR_KAFKA_LIBS, else .cache/kafka/libs of the checkout."""
    checkout = Path(__file__).resolve().parent.parent
    return Path(os.environ.get("WEIR_KAFKA_LIBS") or checkout / ".cache/kafka/libs")


def _class_archive(libs: Path) -> Path:
    return libs.parent / "kafka.jsa"


class Kafka:
    """A broker on 127.0.0.1 with all its files in `directory`; leaving its `with` block stops it."""

    def __init__(
        self,
        directory: Path,
        libs: Path | None = None,
        port: int | None = None,
        heap: str = "512m",
        jvm_options: tuple[str, ...] = (),
        user: tuple[str, str] | None = None,
        properties: str | None = None,
    ) -> None:
        """`directory` is made if missing; `port` defaults to a free one; `heap` as in -Xmx.

        With `user`, a name and password, a second listener takes SASL_SSL with SCRAM-SHA-512 at `secure_bootstrap`;
        its certificate is `certificate`.

        `properties` is the text of a server.properties in place of ours: for us it has a PLAINTEXT listener at `port`,
        and `user` is then its only SCRAM user.
        """
        self.port = port or free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.certificate = directory / "certificate.pem"
        self._user = user
        self._own_properties = properties
        self._secure_port = free_port() if user else 0
        self.secure_bootstrap = f"127.0.0.1:{self._secure_port}"
        self._directory = directory
        self._libs = libs or default_libs()
        self._controller_port = free_port()
        self._jvm_options = (f"-Xmx{heap}", *JVM_OPTIONS, *jvm_options)
        if _class_archive(self._libs).exists():
            self._jvm_options += (f"-XX:SharedArchiveFile={_class_archive(self._libs)}",)
        self.process = Process("kafka", self.java("kafka.Kafka", self._properties), directory / "kafka.log")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._terminate()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._terminate()

    def start(self) -> None:
        """Start the broker, the first time with a newly formatted log folder; return when it answers.

        Raises RuntimeError with the log's tail if it does not come up.
        """
        if not (self._directory / "data" / "meta.properties").exists():
            self._format()
        self.process.start()
        self.process.wait_ready(self._answers, START_SECONDS)

    def stop(self) -> None:
        """Stop the broker in order; data and port stay for the next start()."""
        self.process.terminate(30.0)

    def kill(self) -> None:
        """SIGKILL the broker; the next start() waits some 3 s more, until the dead one's session is over."""
        self.process.kill()

    def freeze(self) -> None:
        self.process.freeze()

    def thaw(self) -> None:
        self.process.thaw()

    @cached_property
    def admin(self) -> AdminClient:
        """A client for administration, silent while the broker is away.

        It lives as long as we do: what is asked of a client that has gone is answered with _DESTROY.
        """
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 100})

    def java(self, main_class: str, *arguments: str | Path) -> list[str | Path]:
        """The command line of a class in our jars, the broker's or that of one of Kafka's tools."""
        if not any(self._libs.glob("kafka_*.jar")):
            raise FileNotFoundError(f"no jars of Apache Kafka in {self._libs}: run make setup, or set WEIR_KAFKA_LIBS")
        return [
            "java",
            *self._jvm_options,
            f"-Djava.io.tmpdir={self._directory}",  # unpacked native libraries outlive a kill
            f"-Dlog4j2.configurationFile={self._directory / 'log4j2.properties'}",
            "-cp",
            f"{self._libs}/*",
            main_class,
            *arguments,
        ]

    def deny_writes(self, topic: str) -> None:
        """Refuse every write to `topic` (TOPIC_AUTHORIZATION_FAILED) until allow_writes(); reading goes on.

        The broker applies it when this returns.
        """
        # The first ACL of a topic shuts out all whom none allows, so the general permission comes first.
        for rule in (_everything_allowed(topic), _writes_denied(topic)):
            for created in self.admin.create_acls([rule]).values():
                created.result(10.0)
        wait_until(lambda: not self._writable(topic), 10.0, f"the denial of writes to {topic}")

    def allow_writes(self, topic: str) -> None:
        """Undo deny_writes(). The broker applies it when this returns."""
        for rule in (_writes_denied(topic), _everything_allowed(topic)):
            for deleted in self.admin.delete_acls([_filter_of(rule)]).values():
                deleted.result(10.0)
        wait_until(lambda: self._writable(topic), 10.0, f"the permission of writes to {topic}")

    def _terminate(self) -> None:
        if self.process.running:
            self.stop()

    def _answers(self) -> bool:
        try:
            return bool(self.admin.list_topics(timeout=1.0).brokers)
        except KafkaException:
            return False

    def _writable(self, topic: str) -> bool:
        """Tell whether the broker itself, which learns of ACLs a little after the controller, permits writes."""
        described = self.admin.describe_topics(TopicCollection([topic]), include_authorized_operations=True)
        operations = described[topic].result(10.0).authorized_operations or []
        return AclOperation.WRITE in operations

    @property
    def _properties(self) -> Path:
        return self._directory / "server.properties"

    def _our_properties(self) -> str:
        settings = _settings(self.port, self._controller_port, self._directory / "data")
        if self._user:
            settings |= _secure_settings(settings, self._secure_port, self._directory)
        return "".join(f"{key}={value}\n" for key, value in settings.items())

    def _format(self) -> None:
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        (self._directory / "log4j2.properties").write_text(LOG4J)
        self._properties.write_text(self._own_properties or self._our_properties())
        arguments: list[str | Path] = ["format", "-t", CLUSTER_ID, "-c", self._properties]
        if self._user:
            arguments += ["--add-scram", "SCRAM-SHA-512=[name={},password={}]".format(*self._user)]
        format_log = self._directory / "format.log"
        with format_log.open("wb") as log:
            done = subprocess.run(
                self.java("kafka.tools.StorageTool", *arguments),
                stdout=log,
                stderr=log,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"Kafka's folder could not be formatted:\n{tail(format_log)}")


def _settings(port: int, controller_port: int, data: Path) -> dict[str, object]:
    return {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        # After a kill the node waits for the end of its own former session (9 s by default).
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "log.cleaner.backoff.ms": 1000,
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
        "log.retention.check.interval.ms": 10_000,
        "log.segment.delete.delay.ms": 1000,
    }


def _secure_settings(plain: dict[str, object], port: int, directory: Path) -> dict[str, object]:
    """A second listener with TLS and SCRAM; makes its key and self-signed certificate."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    request += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(request, check=True, capture_output=True)
    keystore = directory / "keystore.pem"
    keystore.write_text(key.read_text() + certificate.read_text())
    return {
        "listeners": f"{plain['listeners']},SASL_SSL://127.0.0.1:{port}",
        "advertised.listeners": f"{plain['advertised.listeners']},SASL_SSL://127.0.0.1:{port}",
        "listener.security.protocol.map": f"{plain['listener.security.protocol.map']},SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": keystore,
    }


def _everything_allowed(topic: str) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:*",
        "*",
        AclOperation.ALL,
        AclPermissionType.ALLOW,
    )


def _writes_denied(topic: str) -> AclBinding:
    return AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:ANONYMOUS",
        "*",
        AclOperation.WRITE,
        AclPermissionType.DENY,
    )


def _filter_of(rule: AclBinding) -> AclBindingFilter:
    return AclBindingFilter(
        rule.restype,
        rule.name,
        rule.resource_pattern_type,
        rule.principal,
        rule.host,
        rule.operation,
        rule.permission_type,
    )


def write_class_archive(libs: Path) -> None:
    """Run a broker once and have the JVM keep the classes it loaded, beside the folder of jars."""
    _class_archive(libs).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="weir-") as directory:
        archive = Path(directory) / "kafka.jsa"
        with Kafka(Path(directory), libs, jvm_options=("-Xlog:cds=off", f"-XX:ArchiveClassesAtExit={archive}")):
            pass
        shutil.move(archive, _class_archive(libs))


if __name__ == "__main__":
    write_class_archive(default_libs())
