-- What the mail log tells: events of kinds submitted, delivery, removed, rejected and login, and sums of them by the
-- hour of the message's submission (outcomes, host_outcomes, account_outcomes, client_outcomes), with the count as their
-- version. A stage of Postfix stands in protocol_state, a login's method in sasl_method, a message's number of recipients
-- in recipient_count.

ALTER TABLE events
    ADD COLUMN IF NOT EXISTS rule LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS submitted DateTime('UTC') CODEC(Delta, ZSTD),
    ADD COLUMN IF NOT EXISTS message_id String CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS parent String CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS uid Int64 DEFAULT -1 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS login LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS unasked UInt8 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS status LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS relay LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS dsn LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS bounce LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS list LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS text String CODEC(ZSTD(3)),
    ADD COLUMN IF NOT EXISTS how LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS code UInt16 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS service LowCardinality(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS tries UInt32 CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS failed LowCardinality(String) CODEC(ZSTD),
    ADD INDEX IF NOT EXISTS message_id message_id TYPE bloom_filter(0.01) GRANULARITY 1,
    ADD INDEX IF NOT EXISTS queue_id queue_id TYPE bloom_filter(0.01) GRANULARITY 1;

CREATE TABLE IF NOT EXISTS outcomes (
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    sasl_username String CODEC(ZSTD),
    client LowCardinality(String) CODEC(ZSTD),
    uid Int64 CODEC(ZSTD),
    outcome LowCardinality(String) CODEC(ZSTD),
    reason LowCardinality(String) CODEC(ZSTD),
    minute DateTime('UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String) CODEC(ZSTD),
    count UInt64 CODEC(ZSTD),
    INDEX client client TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(count)
PARTITION BY toYYYYMMDD(minute)
ORDER BY (toStartOfHour(minute), hour, sasl_username, client, uid, outcome, reason, minute, host);

CREATE TABLE IF NOT EXISTS host_outcomes (
    minute DateTime('UTC') CODEC(Delta, ZSTD),
    host LowCardinality(String) CODEC(ZSTD),
    outcome LowCardinality(String) CODEC(ZSTD),
    reason LowCardinality(String) CODEC(ZSTD),
    count UInt64 CODEC(ZSTD)
) ENGINE = ReplacingMergeTree(count)
PARTITION BY toYYYYMM(minute)
ORDER BY (minute, host, outcome, reason);

CREATE TABLE IF NOT EXISTS account_outcomes (
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    sasl_username String CODEC(ZSTD),
    outcome LowCardinality(String) CODEC(ZSTD),
    reason LowCardinality(String) CODEC(ZSTD),
    count UInt64 CODEC(ZSTD)
) ENGINE = ReplacingMergeTree(count)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, sasl_username, outcome, reason);

CREATE TABLE IF NOT EXISTS client_outcomes (
    hour DateTime('UTC') CODEC(Delta, ZSTD),
    client String CODEC(ZSTD),
    outcome LowCardinality(String) CODEC(ZSTD),
    reason LowCardinality(String) CODEC(ZSTD),
    count UInt64 CODEC(ZSTD)
) ENGINE = ReplacingMergeTree(count)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, client, outcome, reason);
