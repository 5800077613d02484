"""Settings: one TOML file, read into these structs. Their docstrings are the reference (`weir config reference`).

Invariants: every setting has a default that is safe in production; an unknown key, a wrong type or a value out of range
is one error that names file, key and what was expected; secrets come from the environment only.
"""

from pathlib import Path

import msgspec


class Kafka(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How every part reaches Kafka. Passwords come from WEIR_KAFKA_SASL_PASSWORD and WEIR_KAFKA_SSL_KEY_PASSWORD."""

    bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port."""
    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    sasl_mechanism: str = "SCRAM-SHA-512"
    """PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; used with the SASL protocols."""
    sasl_username: str = ""
    ssl_ca_location: str = ""
    """File with the certificates that are trusted; empty: the system's."""
    ssl_certificate_location: str = ""
    """Client certificate, PEM."""
    ssl_key_location: str = ""
    """Key of the client certificate, PEM."""
    replication_factor: int = 3
    """Of the topics that `weir topics create` makes; at most the number of brokers."""
    min_insync_replicas: int = 2


class Agent(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The agent on a mail host."""

    host: str = ""
    """Name of this mail host in events and evidence, unique in the fleet; empty: the system's host name."""
    listen: list[str] = msgspec.field(default_factory=lambda: ["unix:/run/weir/policy.sock", "127.0.0.1:10040"])
    """Where Postfix asks: `unix:PATH` or `HOST:PORT`. Sockets that systemd hands over come first."""
    socket_mode: str = "0666"
    """Mode of a unix socket, octal: Postfix's smtpd must be able to connect."""
    spool: Path = Path("/var/lib/weir/spool")
    """Directory of the spool and of the snapshot of decisions."""
    spool_max_bytes: int = 2 * 1024**3
    """Bound of the spool; beyond it the oldest events go, counted."""
    metrics: str = "127.0.0.1:9640"
    """Where Prometheus reads, HOST:PORT; empty: nowhere."""


class OwnRule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is set for one rule."""

    limits: str = "fleet"
    """As `rules.limits`, for this rule."""


class Rules(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The agent's rules: files in postfwd's language. SIGHUP reads them again."""

    files: list[str] = msgspec.field(default_factory=list)
    """Read in this order; none: no rules."""
    limits: str = "fleet"
    """What limits (rate, size, rcpt) count: `fleet`, the host's own requests and those of all hosts; or `host`."""
    own: dict[str, OwnRule] = {}
    """Other settings of single rules, by their id: `[rules.own.NEWSLETTER]`."""
    scores: list[str] = msgspec.field(default_factory=list)
    """What is done when a request's score reaches a limit: `LIMIT=ACTION`."""
    dns: bool = True
    """Ask DNS where rules name lists or look-ups; without it none of them matches."""
    resolver: str = ""
    """Name server to ask, ADDRESS:PORT; empty: the system's."""
    dns_timeout_seconds: float = 14.0
    """How long an answer is waited for; Postfix waits for ours as long as its `timeout` says."""
    dns_timeouts: int = 10
    """After more time-outs a list is switched off, until 20 minutes are over."""


class Log(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The mail log of this host, which the agent follows. Its first start leaves out what is in the log already."""

    files: list[str] = msgspec.field(default_factory=list)
    """Files that syslog, Postfix or Dovecot write, such as /var/log/mail.log; rotated ones are found by themselves."""
    journal: bool = False
    """Follow systemd's journal, if no file has what it has."""
    filters: list[str] = msgspec.field(default_factory=list)
    """Addresses of content filters on other hosts that give messages back to this one; those on this host are known."""
    ignore_uids: list[int] = msgspec.field(default_factory=list)
    """Local users whose mail by sendmail(1) is nobody's, such as the one that Sieve redirects are sent by."""


class PostfixInstance(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A Postfix instance of this host, by its name in the mail log: `[queue.instances.postfix-out]`."""

    config_directory: Path = Path("/etc/postfix")
    """The folder of its main.cf."""


class Queue(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The queue's helper on a mail host: it holds and releases messages in Postfix's queues for the agent, as root."""

    instances: dict[str, PostfixInstance] = msgspec.field(default_factory=lambda: {"postfix": PostfixInstance()})
    """The instances whose queues it may touch; `postfix` is the host's own, in /etc/postfix."""
    socket: Path = Path("/run/weir/queue.sock")
    """Where the agent asks. A socket that systemd hands over comes first."""
    user: str = "weir"
    """The agent's user: the helper answers this one and root, and nobody else."""
    held: Path = Path("/var/lib/weir/queue/held.sqlite")
    """Where the helper keeps which messages it put on hold."""
    submit_table: Path = Path("/var/lib/weir/queue/refused_submitters")
    """Login names that may not submit by sendmail(1), one a line, for Postfix's authorized_submit_users."""


class Streams(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A streams worker."""

    name: str = ""
    """Name of this worker, unique among them and the same after a restart; empty: the system's host name."""
    group: str = "weir-streams"
    """Consumer group, and prefix of the transactional ids."""
    metrics: str = "127.0.0.1:9641"
    """Where Prometheus reads, HOST:PORT; empty: nowhere."""


class History(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The history, and the sink that writes it. ClickHouse's password comes from WEIR_CLICKHOUSE_PASSWORD."""

    server: str = ""
    """ClickHouse's native protocol, HOST:PORT (9000, or 9440 with TLS); empty: the sink keeps the history itself."""
    database: str = "weir"
    user: str = "default"
    secure: bool = False
    """TLS to the server."""
    ca_location: str = ""
    """File with the certificates that are trusted; empty: the system's."""
    path: Path = Path("/var/lib/weir/history")
    """Directory of a history without a server."""
    listen: str = "127.0.0.1:9643"
    """Where the sink answers queries of a history without a server, over HTTP and to anybody who can reach it."""
    keep_days: int = 30
    """Days that single events are kept, at least 3; sums of minutes three times as long, of days 13 months."""
    recipients: str = "full"
    """What is kept of a recipient's address: `full`, or its `domain`."""
    group: str = "weir-sink"
    """Consumer group."""
    metrics: str = "127.0.0.1:9642"
    """Where Prometheus reads, HOST:PORT; empty: nowhere."""


class Notify(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`weir notify`, which tells people of blocks. Where to comes from WEIR_NOTIFY_URLS, since that holds secrets: URLs
    as Apprise has them (https://github.com/caronc/apprise/wiki), with white space between."""

    group: str = "weir-notify"
    """Consumer group."""
    metrics: str = "127.0.0.1:9644"
    """Where Prometheus reads, HOST:PORT; empty: nowhere."""


class Grafana(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where `weir dashboards push` writes, and how Grafana reaches the history (its database is `history.database`).
    The token of Grafana's service account comes from WEIR_GRAFANA_TOKEN, the password of ClickHouse's user from
    WEIR_GRAFANA_CLICKHOUSE_PASSWORD."""

    url: str = "http://127.0.0.1:3000"
    """Grafana's address, with its path if it has one."""
    clickhouse: str = "127.0.0.1:9000"
    """ClickHouse as Grafana sees it, HOST:PORT."""
    clickhouse_protocol: str = "native"
    """native (ports 9000, or 9440 with TLS) or http (8123, or 8443)."""
    clickhouse_secure: bool = False
    """TLS to ClickHouse."""
    clickhouse_user: str = "weir_reader"
    """A user that can only read: whoever edits dashboards can send any query."""


class Thresholds(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """More than this is a burst: messages and recipients accepted over all hosts. 0 switches a threshold off."""

    messages_per_minute: int = 60
    recipients_per_minute: int = 200
    messages_per_hour: int = 500
    recipients_per_hour: int = 1500


class OwnThresholds(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Thresholds of one subject; what is not given is as for others of its kind."""

    messages_per_minute: int | None = None
    recipients_per_minute: int | None = None
    messages_per_hour: int | None = None
    recipients_per_hour: int | None = None


class Burst(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The detector `burst`: too many messages or recipients in a minute or in an hour."""

    account: Thresholds = msgspec.field(default_factory=Thresholds)
    """For each account, and for each local user that sends by sendmail(1), such as a web server's (`uid:33`)."""
    client: Thresholds = msgspec.field(
        default_factory=lambda: Thresholds(
            messages_per_minute=240, recipients_per_minute=800, messages_per_hour=2000, recipients_per_hour=6000
        )
    )
    """For each client address (an IPv6 client is its /64)."""
    own: dict[str, OwnThresholds] = {}
    """Own thresholds of single accounts, addresses or local users, a newsletter's for example:
    `[detectors.burst.own."news@example.org"]`."""
    block_seconds: int = 3600
    """How long a block lasts, at most 30 days."""
    text: str = "Too much mail in a short time, sending is blocked for now"
    """What the refused client is told, before the decision's name; at most 200 ASCII characters."""
    shadow: bool = False
    """Decide, record and tell, but block nobody."""


class Detectors(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    burst: Burst = msgspec.field(default_factory=Burst)


class Brake(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Too many blocks of accounts at once are more likely our mistake than an attack: further ones become shadows."""

    blocks: int = 50
    """Blocks of accounts by detectors in ten minutes."""
    share: float = 0.05
    """Blocked share of the accounts that sent in the last hour; looked at from ten blocks on. 1 switches it off."""


class Settings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    default_realm: str = ""
    """Added to a login name without @, as Postfix's smtpd_sasl_local_domain would."""
    trusted: list[str] = msgspec.field(
        default_factory=lambda: [
            "127.0.0.0/8",
            "::1/128",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "fc00::/7",
            "fe80::/10",
        ]
    )
    """Networks that detectors never block: the fleet's own relays and webmail belong here."""
    kafka: Kafka = msgspec.field(default_factory=Kafka)
    agent: Agent = msgspec.field(default_factory=Agent)
    rules: Rules = msgspec.field(default_factory=Rules)
    log: Log = msgspec.field(default_factory=Log)
    queue: Queue = msgspec.field(default_factory=Queue)
    streams: Streams = msgspec.field(default_factory=Streams)
    history: History = msgspec.field(default_factory=History)
    notify: Notify = msgspec.field(default_factory=Notify)
    grafana: Grafana = msgspec.field(default_factory=Grafana)
    detectors: Detectors = msgspec.field(default_factory=Detectors)
    brake: Brake = msgspec.field(default_factory=Brake)
