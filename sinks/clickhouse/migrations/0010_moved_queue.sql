-- What waits, in the pool to which an operator has moved it: moving writes no fact per message, so the control itself is applied.

-- Moves are applied in order, to what their selectors mean, as workers do. One counts for a message when it was set after the
-- newest fact that names its pool (or, since a worker takes up to two seconds to obey, hardly before): a fact that is newer
-- knows better. A moved message is tried at once.
CREATE OR REPLACE VIEW v_queue DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
WITH (
    SELECT arraySort(m -> m.1, groupArray((occurred_at, selector, JSONExtractString(arguments, 'pool'),
        JSONExtract(arguments, 'pools', 'Array(String)'),
        if(selector['accepted_before'] = '', occurred_at,
            ifNull(parseDateTime64BestEffortOrNull(selector['accepted_before'], 6, 'UTC'), occurred_at)))))
    FROM controls
    WHERE action = 'move' AND occurred_at > now64(6) - INTERVAL 14 DAY
) AS moves
SELECT message_id, tenant, stream, campaign_id, recipient_domain, site, provider,
    placed.1 AS pool, source, attempts, deferrals, accepted_at, send_at,
    if(placed.2, placed.3, q.next_at) AS next_at, expires_at, class, reply_code, reply_text
FROM (
    SELECT w.message_id AS message_id, w.tenant AS tenant, w.stream AS stream, w.campaign_id AS campaign_id,
        w.recipient_domain AS recipient_domain,
        multiIf(w.site != '', w.site, s.site != '', s.site, w.recipient_domain) AS site,
        if(w.provider != '', w.provider, s.provider) AS provider,
        w.source AS source, w.attempts AS attempts, w.deferrals AS deferrals,
        w.accepted_at AS accepted_at, w.send_at AS send_at, w.next_at AS next_at, w.expires_at AS expires_at,
        w.class AS class, w.reply_code AS reply_code, w.reply_text AS reply_text,
        arrayFold(
            (at, m) -> if(
                m.1 + INTERVAL 2 SECOND > w.named_at AND w.accepted_at < m.5 AND m.3 != at.1
                AND (m.2['pool'] = '' OR m.2['pool'] = at.1)
                AND (m.2['source'] = '' OR has(m.4, at.1))
                AND (m.2['campaign'] = '' OR m.2['campaign'] = ifNull(w.campaign_id, ''))
                AND (m.2['tenant'] = '' OR m.2['tenant'] = w.tenant)
                AND (m.2['stream'] = '' OR m.2['stream'] = w.stream)
                AND (m.2['domain'] = '' OR m.2['domain'] = w.recipient_domain)
                AND (m.2['site'] = '' OR m.2['site'] = site)
                AND (m.2['provider'] = '' OR m.2['provider'] = provider),
                (m.3, true, m.1), at),
            moves, (toString(w.pool), false, w.accepted_at)) AS placed
    FROM (
        SELECT message_id,
            argMinIf(q.tenant, told, is_accepted) AS tenant, argMinIf(q.stream, told, is_accepted) AS stream,
            argMinIf(q.campaign_id, told, is_accepted) AS campaign_id, argMinIf(q.recipient_domain, told, is_accepted) AS recipient_domain,
            argMax(q.site, newest) AS site, argMaxIf(q.provider, newest, q.provider != '') AS provider,
            argMax(q.pool, newest) AS pool, argMax(q.named_at, newest) AS named_at, argMax(q.source, newest) AS source,
            max(q.attempt) AS attempts, uniqExactIf(q.attempt, q.type = 'attempt.deferred') AS deferrals,
            argMinIf(q.occurred_at, told, is_accepted) AS accepted_at, argMinIf(tuple(q.send_at), told, is_accepted).1 AS send_at,
            argMax(tuple(q.next_at), newest).1 AS next_at, argMinIf(tuple(q.expires_at), told, is_accepted).1 AS expires_at,
            argMax(q.bounce_class, newest) AS class, argMax(q.reply_code, newest) AS reply_code,
            argMax(q.reply_text, newest) AS reply_text
        FROM (
            SELECT message_id, type = 'message.accepted' AS is_accepted, type != 'message.accepted' AS is_end,
                (recorded_at, kafka_offset) AS told,
                -- Of the newest attempt, and of its rows the one that was told first.
                (0, bitNot(toUnixTimestamp64Micro(recorded_at)), bitNot(kafka_offset)) AS newest, type, tenant, stream,
                campaign_id, recipient_domain, '' AS site, provider, pool, occurred_at AS named_at, '' AS source, 0 AS attempt,
                occurred_at, send_at, NULL AS next_at, expires_at, '' AS bounce_class, 0 AS reply_code, '' AS reply_text
            FROM messages
            WHERE occurred_at > now64(6) - INTERVAL 14 DAY AND type IN ('message.accepted', 'message.delivered',
                'message.bounced', 'message.suppressed', 'message.cancelled', 'message.expired', 'message.failed',
                'message.unknown')
            UNION ALL
            SELECT message_id, false, false, (recorded_at, kafka_offset),
                (attempt, bitNot(toUnixTimestamp64Micro(recorded_at)), bitNot(kafka_offset)), type, tenant, stream,
                campaign_id, recipient_domain, site, provider, pool, started_at, source, attempt, occurred_at, NULL, next_at,
                NULL, bounce_class, reply_code, reply_text
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
    ) AS s ON w.recipient_domain = s.domain
) AS q;
