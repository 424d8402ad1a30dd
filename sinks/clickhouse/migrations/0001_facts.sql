-- One table per topic, named after it. Tables are private: ask the views of 0003_views.sql.
--
-- A record's JSON is inserted as it came; fields without a column are left out (test_columns.py has the list).
-- event_id is in every sort key, so a record that came twice becomes one row. Of rows with the same event_id the one
-- recorded first stays, whatever the order of insertion: `version` is larger the earlier it was recorded.
-- A message or a mail's reader is looked up by message_id, which leads the sort key; a person by a bloom filter.
-- non_replicated_deduplication_window makes insert_deduplication_token work without replication (it is off by default).

CREATE TABLE IF NOT EXISTS messages (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    idempotency_key String, send_at Nullable(DateTime64(6, 'UTC')), expires_at Nullable(DateTime64(6, 'UTC')),
    accepted_at Nullable(DateTime64(6, 'UTC')), attempts UInt16, bounce_class LowCardinality(String),
    disposition LowCardinality(String), reply_code UInt16, reply_enhanced LowCardinality(String), reply_text String,
    suppression LowCardinality(String), cancelled_by String, reason LowCardinality(String), detail String,
    position String, kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS attempts (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    attempt UInt16, started_at DateTime64(6, 'UTC') DEFAULT occurred_at, next_at Nullable(DateTime64(6, 'UTC')),
    site LowCardinality(String), source LowCardinality(String), worker LowCardinality(String),
    mx_host LowCardinality(String), mx_ip LowCardinality(String), session_id String, stage LowCardinality(String),
    cause LowCardinality(String), connect_ms Float32, transfer_ms Float32, tls_version LowCardinality(String),
    tls_cipher LowCardinality(String), tls_verified Bool, reply_code UInt16, reply_enhanced LowCardinality(String),
    reply_text String, bounce_class LowCardinality(String), disposition LowCardinality(String),
    rule LowCardinality(String), classifier_version UInt32, kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS bounces (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    phase LowCardinality(String), bounce_class LowCardinality(String), disposition LowCardinality(String),
    reply_code UInt16, reply_enhanced LowCardinality(String), diagnostic String, reporting_mta LowCardinality(String),
    rule LowCardinality(String), classifier_version UInt32, sha256 String, reason LowCardinality(String),
    kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS complaints (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    kind LowCardinality(String), reporter LowCardinality(String), user_agent String, kafka_partition UInt16,
    kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS unsubscribes (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    via LowCardinality(String), kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS opens (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    user_agent String, network String, method LowCardinality(String), open_id UUID, verdict LowCardinality(String),
    rule LowCardinality(String), classifier_version UInt32, kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS clicks (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    link UInt32, user_agent String, network String, method LowCardinality(String), click_id UUID,
    verdict LowCardinality(String), rule LowCardinality(String), classifier_version UInt32, kafka_partition UInt16,
    kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS conversions (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    name LowCardinality(String), value Float64, currency LowCardinality(String), kafka_partition UInt16,
    kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS replies (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    stream LowCardinality(String), campaign_id LowCardinality(String), message_id String, recipient_id String,
    subject_ref String, recipient_domain LowCardinality(String), provider LowCardinality(String),
    pool LowCardinality(String), tags Array(LowCardinality(String)), metadata Map(LowCardinality(String), String),
    kind LowCardinality(String), kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at))),
    INDEX by_recipient recipient_id TYPE bloom_filter(0.001)
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (message_id, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS tallies (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String),
    worker LowCardinality(String), subject_kind LowCardinality(String), subject_name LowCardinality(String),
    provider LowCardinality(String), seconds Float32, counts Map(LowCardinality(String), Int64),
    kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at)))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (subject_kind, subject_name, event_id)
TTL toDate(occurred_at) + INTERVAL 30 DAY
SETTINGS non_replicated_deduplication_window = 1000;

CREATE TABLE IF NOT EXISTS audits (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), asset String,
    check LowCardinality(String), result LowCardinality(String), detail String,
    attributes Map(LowCardinality(String), String), kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at)))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (asset, event_id)
TTL toDate(occurred_at) + INTERVAL 400 DAY
SETTINGS non_replicated_deduplication_window = 1000;

-- Without the record itself: it may be a send, and hold an address.
CREATE TABLE IF NOT EXISTS deadletters (
    event_id UUID, type LowCardinality(String), schema_version UInt16, occurred_at DateTime64(6, 'UTC'),
    recorded_at DateTime64(6, 'UTC') DEFAULT occurred_at, tenant LowCardinality(String), topic LowCardinality(String),
    partition UInt32, offset UInt64, group LowCardinality(String), reason String, record_size UInt64, sha256 String,
    kafka_partition UInt16, kafka_offset UInt64,
    version UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Micro(recorded_at)))
) ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (topic, partition, offset, event_id)
TTL toDate(occurred_at) + INTERVAL 7 DAY
SETTINGS non_replicated_deduplication_window = 1000;
