-- The history. An event is known by (host, epoch, seq), a decision's record by (id, change), a word by (subject, word, id):
-- what is written twice is merged by ReplacingMergeTree, so every reader says FINAL. Times are UTC, by the broker's clock.
-- Sums (minutes, host_minutes, account_hours, client_hours, days) have the number of events they cover as their version.

CREATE TABLE IF NOT EXISTS events (
    minute DateTime('UTC') CODEC(Delta, ZSTD),
    time DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String) CODEC(ZSTD),
    epoch LowCardinality(String) CODEC(ZSTD),
    seq UInt64 CODEC(Delta, ZSTD),
    kind LowCardinality(String) CODEC(ZSTD),
    protocol_state LowCardinality(String) CODEC(ZSTD),
    action LowCardinality(String) CODEC(ZSTD),
    refused UInt8,
    decision LowCardinality(String) CODEC(ZSTD),
    sasl_username String CODEC(ZSTD),
    sasl_method LowCardinality(String) CODEC(ZSTD),
    sender String CODEC(ZSTD(3)),
    recipient String CODEC(ZSTD(3)),
    recipient_count UInt64 CODEC(ZSTD),
    client LowCardinality(String) CODEC(ZSTD),
    client_address LowCardinality(String) CODEC(ZSTD),
    client_name LowCardinality(String) CODEC(ZSTD),
    client_port UInt16 CODEC(ZSTD),
    helo_name LowCardinality(String) CODEC(ZSTD),
    server_address LowCardinality(String) CODEC(ZSTD),
    queue_id String CODEC(ZSTD(3)),
    instance String CODEC(ZSTD(3)),
    size UInt64 CODEC(ZSTD),
    encryption_protocol LowCardinality(String) CODEC(ZSTD),
    policy_context LowCardinality(String) CODEC(ZSTD),
    messages UInt64 CODEC(ZSTD),
    recipients UInt64 CODEC(ZSTD),
    bytes UInt64 CODEC(ZSTD),
    attempted_messages UInt64 CODEC(ZSTD),
    attempted_recipients UInt64 CODEC(ZSTD),
    clock_offset Float32 CODEC(ZSTD),
    cut UInt8 CODEC(ZSTD),
    details String CODEC(ZSTD(3)),
    INDEX client client TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(minute)
ORDER BY (toStartOfHour(minute), sasl_username, client, time, host, epoch, seq)
SETTINGS non_replicated_deduplication_window = 100;

CREATE TABLE IF NOT EXISTS decisions (
    day Date,
    id String,
    change UInt32,
    subject String,
    cause LowCardinality(String) CODEC(ZSTD),
    action String CODEC(ZSTD(3)),
    since DateTime64(3, 'UTC'),
    until DateTime64(3, 'UTC'),
    after DateTime64(3, 'UTC'),
    decided DateTime64(3, 'UTC'),
    shadow UInt8,
    why_shadow LowCardinality(String) CODEC(ZSTD),
    who String,
    counter LowCardinality(String) CODEC(ZSTD),
    count UInt64,
    threshold UInt64,
    seconds UInt32,
    crossed DateTime64(3, 'UTC'),
    hosts Array(String),
    beside Array(String)
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (subject, since, id, change);

CREATE TABLE IF NOT EXISTS words (
    day Date,
    time DateTime64(3, 'UTC'),
    subject String,
    word LowCardinality(String) CODEC(ZSTD),
    id String,
    who String,
    reason String,
    until DateTime64(3, 'UTC'),
    action String
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (subject, time, word, id);

CREATE TABLE IF NOT EXISTS minutes (
    minute DateTime('UTC') CODEC(Delta, ZSTD),
    sasl_username String CODEC(ZSTD),
    client LowCardinality(String) CODEC(ZSTD),
    host LowCardinality(String) CODEC(ZSTD),
    events UInt64 CODEC(ZSTD),
    messages UInt64 CODEC(ZSTD),
    recipients UInt64 CODEC(ZSTD),
    bytes UInt64 CODEC(ZSTD),
    attempted_messages UInt64 CODEC(ZSTD),
    attempted_recipients UInt64 CODEC(ZSTD),
    refused UInt64 CODEC(ZSTD),
    blocked UInt64 CODEC(ZSTD),
    INDEX client client TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(events)
PARTITION BY toYYYYMMDD(minute)
ORDER BY (toStartOfHour(minute), sasl_username, client, host, minute);

CREATE TABLE IF NOT EXISTS host_minutes (
    minute DateTime('UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String) CODEC(ZSTD),
    events UInt64 CODEC(ZSTD),
    messages UInt64 CODEC(ZSTD),
    recipients UInt64 CODEC(ZSTD),
    bytes UInt64 CODEC(ZSTD),
    attempted_messages UInt64 CODEC(ZSTD),
    attempted_recipients UInt64 CODEC(ZSTD),
    refused UInt64 CODEC(ZSTD),
    blocked UInt64 CODEC(ZSTD)
) ENGINE = ReplacingMergeTree(events)
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, host);

CREATE TABLE IF NOT EXISTS account_hours (
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    sasl_username String CODEC(ZSTD),
    events UInt64 CODEC(ZSTD),
    messages UInt64 CODEC(ZSTD),
    recipients UInt64 CODEC(ZSTD),
    bytes UInt64 CODEC(ZSTD),
    attempted_messages UInt64 CODEC(ZSTD),
    attempted_recipients UInt64 CODEC(ZSTD),
    refused UInt64 CODEC(ZSTD),
    blocked UInt64 CODEC(ZSTD),
    clients AggregateFunction(uniqExact, String),
    hosts AggregateFunction(uniqExact, String)
) ENGINE = ReplacingMergeTree(events)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, sasl_username);

CREATE TABLE IF NOT EXISTS client_hours (
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    client String CODEC(ZSTD),
    events UInt64 CODEC(ZSTD),
    messages UInt64 CODEC(ZSTD),
    recipients UInt64 CODEC(ZSTD),
    bytes UInt64 CODEC(ZSTD),
    attempted_messages UInt64 CODEC(ZSTD),
    attempted_recipients UInt64 CODEC(ZSTD),
    refused UInt64 CODEC(ZSTD),
    blocked UInt64 CODEC(ZSTD),
    accounts AggregateFunction(uniqExact, String),
    hosts AggregateFunction(uniqExact, String)
) ENGINE = ReplacingMergeTree(events)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, client);

CREATE TABLE IF NOT EXISTS days (
    day Date,
    sasl_username String CODEC(ZSTD),
    events UInt64 CODEC(ZSTD),
    messages UInt64 CODEC(ZSTD),
    recipients UInt64 CODEC(ZSTD),
    bytes UInt64 CODEC(ZSTD),
    attempted_messages UInt64 CODEC(ZSTD),
    attempted_recipients UInt64 CODEC(ZSTD),
    refused UInt64 CODEC(ZSTD),
    blocked UInt64 CODEC(ZSTD),
    clients UInt32 CODEC(ZSTD),
    hosts UInt32 CODEC(ZSTD)
) ENGINE = ReplacingMergeTree(events)
PARTITION BY toYYYYMM(day)
ORDER BY (sasl_username, day);
