-- What waits, for `mailriver queue`; and the signature of controls.

ALTER TABLE controls ADD COLUMN IF NOT EXISTS signature String;

-- One row per message that has not ended. Lanes keep a message for four days, and a scheduled one for as long before: what
-- is older than two weeks cannot wait any more, and is not read.
CREATE OR REPLACE VIEW v_queue DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT w.message_id AS message_id, w.tenant AS tenant, w.stream AS stream, w.campaign_id AS campaign_id,
    w.recipient_domain AS recipient_domain,
    multiIf(w.site != '', w.site, s.site != '', s.site, w.recipient_domain) AS site,
    if(w.provider != '', w.provider, s.provider) AS provider,
    w.pool AS pool, w.source AS source, w.attempts AS attempts, w.deferrals AS deferrals,
    w.accepted_at AS accepted_at, w.send_at AS send_at, w.next_at AS next_at, w.expires_at AS expires_at,
    w.class AS class, w.reply_code AS reply_code, w.reply_text AS reply_text
FROM (
    SELECT message_id,
        argMinIf(q.tenant, told, is_accepted) AS tenant, argMinIf(q.stream, told, is_accepted) AS stream,
        argMinIf(q.campaign_id, told, is_accepted) AS campaign_id, argMinIf(q.recipient_domain, told, is_accepted) AS recipient_domain,
        argMax(q.site, newest) AS site, argMaxIf(q.provider, newest, q.provider != '') AS provider,
        argMax(q.pool, newest) AS pool, argMax(q.source, newest) AS source,
        max(q.attempt) AS attempts, uniqExactIf(q.attempt, q.type = 'attempt.deferred') AS deferrals,
        argMinIf(q.occurred_at, told, is_accepted) AS accepted_at, argMinIf(tuple(q.send_at), told, is_accepted).1 AS send_at,
        argMax(tuple(q.next_at), newest).1 AS next_at, argMinIf(tuple(q.expires_at), told, is_accepted).1 AS expires_at,
        argMax(q.bounce_class, newest) AS class, argMax(q.reply_code, newest) AS reply_code,
        argMax(q.reply_text, newest) AS reply_text
    FROM (
        SELECT message_id, type = 'message.accepted' AS is_accepted, type != 'message.accepted' AS is_end,
            (recorded_at, kafka_offset) AS told,
            -- Of the newest attempt, and of its rows the one that was told first.
            (0, bitNot(toUnixTimestamp64Micro(recorded_at)), bitNot(kafka_offset)) AS newest, type, tenant, stream, campaign_id, recipient_domain, '' AS site, provider, pool,
            '' AS source, 0 AS attempt, occurred_at, send_at, NULL AS next_at, expires_at, '' AS bounce_class,
            0 AS reply_code, '' AS reply_text
        FROM messages
        WHERE occurred_at > now64(6) - INTERVAL 14 DAY AND type IN ('message.accepted', 'message.delivered',
            'message.bounced', 'message.suppressed', 'message.cancelled', 'message.expired', 'message.failed',
            'message.unknown')
        UNION ALL
        SELECT message_id, false, false, (recorded_at, kafka_offset),
            (attempt, bitNot(toUnixTimestamp64Micro(recorded_at)), bitNot(kafka_offset)), type, tenant, stream, campaign_id, recipient_domain,
            site, provider, pool, source, attempt, occurred_at, NULL, next_at, NULL, bounce_class, reply_code, reply_text
        FROM attempts
        WHERE occurred_at > now64(6) - INTERVAL 14 DAY AND type != 'attempt.held'
    ) AS q
    GROUP BY message_id
    HAVING countIf(is_accepted) > 0 AND countIf(is_end) = 0
) AS w
LEFT JOIN (
    SELECT domain, argMax(t.site, kafka_offset) AS site, argMax(t.provider, kafka_offset) AS provider
    FROM sites AS t
    GROUP BY domain
) AS s ON w.recipient_domain = s.domain;
