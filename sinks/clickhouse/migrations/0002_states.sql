-- State topics: the whole history, for ever. Each record is its own row, known by its place in Kafka, since a state can be
-- set, changed and set again by the same cause; a key's newest state is the one with the largest offset.

CREATE TABLE IF NOT EXISTS suppressions (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), recipient_id String,
    scope LowCardinality(String), active Bool, reason LowCardinality(String), message_id String,
    until Nullable(DateTime64(6, 'UTC')), note String, kafka_partition UInt16, kafka_offset UInt64
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, recipient_id, scope, event_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS campaigns (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), campaign_id String,
    name String, status LowCardinality(String), stream LowCardinality(String), pool LowCardinality(String),
    subject_template String, tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    expires_after_s UInt32, kafka_partition UInt16, kafka_offset UInt64
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, campaign_id, event_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS shaping (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), selector String,
    action LowCardinality(String), value Float64, until Nullable(DateTime64(6, 'UTC')), rule LowCardinality(String),
    rule_version UInt32, evidence Array(String), kafka_partition UInt16, kafka_offset UInt64
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (selector, action, event_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS controls (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), control_id String,
    action LowCardinality(String), selector Map(LowCardinality(String), String), reason String, by String,
    until Nullable(DateTime64(6, 'UTC')), arguments String, kafka_partition UInt16, kafka_offset UInt64
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (control_id, event_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS sites (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), domain String,
    site LowCardinality(String), provider LowCardinality(String), mx_hosts Array(LowCardinality(String)),
    kafka_partition UInt16, kafka_offset UInt64
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (domain, event_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS subscribers (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), recipient_id String,
    subject_ref String, streams Map(LowCardinality(String), Bool), attributes Map(LowCardinality(String), String),
    kafka_partition UInt16, kafka_offset UInt64
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant, recipient_id, event_id, kafka_partition, kafka_offset)
SETTINGS non_replicated_deduplication_window = 1000;
