-- The views are the contract (docs/sql.md); they run with their maker's rights, so a reader needs no right on a table.
--
-- A table may hold a row several times, in any order, until it is merged; then the one that was recorded first stays. So
-- a view either reads FINAL, or uses only aggregates that come to the same before and after: unique counts, and argMin by
-- (recorded_at, kafka_offset) among the rows of one event, which is a total order. Views that are looked up by message_id keep it as it is in the sort key: the condition reaches
-- the primary index.

CREATE OR REPLACE VIEW v_messages DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT
    message_id,
    argMinIf(m.idempotency_key, told, is_accepted) AS idempotency_key,
    argMinIf(m.tenant, told, is_accepted) AS tenant,
    argMinIf(m.stream, told, is_accepted) AS stream,
    argMinIf(m.campaign_id, told, is_accepted) AS campaign_id,
    argMinIf(m.recipient_id, told, is_accepted) AS recipient_id,
    argMinIf(m.recipient_domain, told, is_accepted) AS recipient_domain,
    -- Accepted before the site is known: the attempt and the end know more.
    argMinIf(m.provider, place, m.provider != '') AS provider,
    argMinIf(m.pool, place, NOT is_late) AS pool,
    if(countIf(is_end) = 0, 'in_flight', argMinIf(what, told, is_end)) AS status,
    if(argMinIf(m.bounce_class, told, is_end) != '', argMinIf(m.bounce_class, told, is_end),
        argMinIf(m.bounce_class, told, is_late)) AS class,
    if(countIf(is_end) = 0, maxIf(m.attempts, is_attempt), argMinIf(m.attempts, told, is_end)) AS attempts,
    countIf(is_late) > 0 AS late_bounce,
    argMinIf(occurred_at, told, is_accepted) AS accepted_at,
    if(countIf(is_end) = 0, NULL, argMinIf(occurred_at, told, is_end)) AS ended_at,
    argMinIf(tuple(m.send_at), told, is_accepted).1 AS send_at,
    argMinIf(tuple(m.expires_at), told, is_accepted).1 AS expires_at,
    argMinIf(m.subject_ref, told, is_accepted) AS subject_ref,
    argMinIf(m.tags, told, is_accepted) AS tags,
    argMinIf(m.metadata, told, is_accepted) AS metadata
FROM (
    SELECT *, bitShiftLeft(toUInt128(toUnixTimestamp64Micro(recorded_at)), 64) + kafka_offset AS told,
        -- Of the end, else of the newest attempt, else of the acceptance.
        bitShiftLeft(toUInt256(multiIf(is_end, 0, is_attempt, 65536 - attempts, 65537)), 128) + told AS place
    FROM (
        SELECT message_id, recorded_at, kafka_offset, substring(type, 9) AS what, what = 'accepted' AS is_accepted,
            NOT is_accepted AS is_end, false AS is_attempt, false AS is_late, occurred_at, idempotency_key, tenant, stream,
            campaign_id, recipient_id, recipient_domain, provider, pool, bounce_class, attempts, send_at, expires_at,
            subject_ref, tags, metadata
        FROM messages
        WHERE type IN ('message.accepted', 'message.delivered', 'message.bounced', 'message.suppressed',
            'message.cancelled', 'message.expired', 'message.failed', 'message.unknown')
        UNION ALL
        SELECT message_id, recorded_at, kafka_offset, '', false, false, true, false, occurred_at, '', '', '', '', '', '',
            provider, pool, '', attempt, NULL, NULL, '', [], map()
        FROM attempts
        WHERE type != 'attempt.held'
        UNION ALL
        SELECT message_id, recorded_at, kafka_offset, '', false, false, false, true, occurred_at, '', '', '', '', '', '',
            '', '', bounce_class, 0, NULL, NULL, '', [], map()
        FROM bounces
        WHERE type = 'bounce.received' AND phase = 'async'
    )
) AS m
GROUP BY message_id
HAVING countIf(is_accepted) > 0;

CREATE OR REPLACE VIEW v_outcomes DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, occurred_at AS ended_at, substring(type, 9) AS status, tenant, stream, campaign_id, recipient_id,
    recipient_domain, provider, pool, bounce_class AS class, disposition, attempts, accepted_at,
    dateDiff('millisecond', accepted_at, occurred_at) / 1000 AS seconds, reply_code, reply_enhanced, reply_text,
    suppression, cancelled_by, reason
FROM messages FINAL
WHERE type IN ('message.delivered', 'message.bounced', 'message.suppressed', 'message.cancelled', 'message.expired',
    'message.failed', 'message.unknown');

CREATE OR REPLACE VIEW v_rejected DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT occurred_at, tenant, stream, campaign_id, idempotency_key, message_id, recipient_id, recipient_domain, reason,
    detail, subject_ref, tags, metadata
FROM messages FINAL
WHERE type = 'message.rejected';

CREATE OR REPLACE VIEW v_attempts DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, attempt, substring(type, 9) AS outcome, started_at, occurred_at, next_at, tenant, stream, campaign_id,
    recipient_id, recipient_domain, provider, pool, site, source, worker, mx_host, mx_ip, session_id, stage, cause,
    connect_ms, transfer_ms, tls_version, tls_cipher, tls_verified, reply_code, reply_enhanced, reply_text,
    bounce_class AS class, disposition, rule, classifier_version, recorded_at
FROM attempts FINAL;

CREATE OR REPLACE VIEW timeline DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
    arrayStringConcat(arrayFilter(x -> x != '', parts), ' ') AS detail
FROM (
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
        CAST([if(type = 'message.accepted', idempotency_key, ''),
            if(type = 'message.scheduled', 'until ' || formatDateTime(send_at, '%F %T'), ''),
            suppression, cancelled_by, reason, detail, if(type = 'message.duplicate', position, ''), bounce_class,
            if(reply_code = 0, '', toString(reply_code)), reply_enhanced, reply_text], 'Array(String)') AS parts
    FROM messages FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
        ['#' || toString(attempt), mx_host, if(stage = '', '', 'at ' || stage), cause, bounce_class,
            if(reply_code = 0, '', toString(reply_code)), reply_enhanced, reply_text,
            if(next_at IS NULL, '', 'next ' || formatDateTime(next_at, '%F %T'))]
    FROM attempts FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
        [bounce_class, disposition, reporting_mta, if(reply_code = 0, '', toString(reply_code)), reply_enhanced,
            diagnostic]
    FROM bounces FINAL
    WHERE type = 'bounce.received' AND phase = 'async'
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type, [kind, reporter]
    FROM complaints FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type, [via]
    FROM unsubscribes FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
        [verdict, if(rule = '', '', 'by ' || rule), user_agent]
    FROM opens FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
        ['link ' || toString(link), verdict, if(rule = '', '', 'by ' || rule), user_agent]
    FROM clicks FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type,
        [name, toString(value), currency]
    FROM conversions FINAL
    UNION ALL
    SELECT message_id, recipient_id, occurred_at, recorded_at, tenant, campaign_id, type, [kind]
    FROM replies FINAL
);

CREATE OR REPLACE VIEW v_message_timeline DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, occurred_at, type, detail FROM timeline;

CREATE OR REPLACE VIEW v_recipient_timeline DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT recipient_id, occurred_at, recorded_at, tenant, message_id, campaign_id, type, detail FROM timeline
UNION ALL
SELECT recipient_id, occurred_at, recorded_at, tenant, message_id, '', if(active, 'suppression.set', 'suppression.lifted'),
    arrayStringConcat(arrayFilter(x -> x != '', [reason, 'scope ' || scope,
        if(until IS NULL, '', 'until ' || formatDateTime(until, '%F %T')), note]), ' ')
FROM suppressions FINAL;

-- Verdicts on opens and clicks: the newest classifier's word on each counts.
CREATE OR REPLACE VIEW v_engagement DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, message_id, recipient_id, 'open' AS kind, open_id AS event_id, 0 AS link,
    argMin(o.verdict, judged) AS verdict, argMin(o.rule, judged) AS rule,
    max(o.classifier_version) AS classifier_version, argMin(o.occurred_at, judged) AS judged_at
FROM (
    SELECT *, (bitNot(classifier_version), recorded_at, kafka_offset) AS judged FROM opens WHERE type = 'open.judged'
) AS o
GROUP BY tenant, campaign_id, message_id, recipient_id, open_id
UNION ALL
SELECT tenant, campaign_id, message_id, recipient_id, 'click', click_id, argMin(c.link, judged), argMin(c.verdict, judged),
    argMin(c.rule, judged), max(c.classifier_version), argMin(c.occurred_at, judged)
FROM (
    SELECT *, (bitNot(classifier_version), recorded_at, kafka_offset) AS judged FROM clicks WHERE type = 'click.judged'
) AS c
GROUP BY tenant, campaign_id, message_id, recipient_id, click_id;

CREATE OR REPLACE VIEW v_engagement_human DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, message_id, recipient_id, kind, event_id, link, rule, classifier_version, judged_at
FROM v_engagement
WHERE verdict = 'human';

CREATE OR REPLACE VIEW v_campaign_funnel DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id,
    uniqExactIf(message_id, what = 'accepted') AS accepted,
    uniqExactIf(message_id, what = 'delivered') AS delivered,
    uniqExactIf(message_id, what = 'bounced') AS bounced,
    uniqExactIf(message_id, what = 'late_bounced') AS late_bounced,
    uniqExactIf(message_id, what = 'suppressed') AS suppressed,
    uniqExactIf(message_id, what = 'expired') AS expired,
    uniqExactIf(message_id, what = 'failed') AS failed,
    uniqExactIf(message_id, what = 'cancelled') AS cancelled,
    uniqExactIf(message_id, what = 'unknown') AS unknown,
    uniqExactIf(message_id, is_end OR what = 'accepted') - uniqExactIf(message_id, is_end) AS in_flight,
    uniqExactIf(message_id, what = 'opened') AS opened,
    uniqExactIf(message_id, what = 'open') AS opened_human,
    uniqExactIf(message_id, what = 'clicked') AS clicked,
    uniqExactIf(message_id, what = 'click') AS clicked_human,
    uniqExactIf(message_id, what = 'unsubscribed') AS unsubscribed,
    uniqExactIf(message_id, what = 'complained') AS complained
FROM (
    SELECT tenant, campaign_id, message_id, substring(type, 9) AS what, what != 'accepted' AS is_end
    FROM messages
    WHERE type IN ('message.accepted', 'message.delivered', 'message.bounced', 'message.suppressed',
        'message.cancelled', 'message.expired', 'message.failed', 'message.unknown')
    UNION ALL
    SELECT tenant, campaign_id, message_id, 'late_bounced', false FROM bounces WHERE type = 'bounce.received' AND phase = 'async'
    UNION ALL
    SELECT tenant, campaign_id, message_id, 'opened', false FROM opens WHERE type = 'message.opened'
    UNION ALL
    SELECT tenant, campaign_id, message_id, 'clicked', false FROM clicks WHERE type = 'message.clicked'
    UNION ALL
    SELECT tenant, campaign_id, message_id, kind, false FROM v_engagement_human
    UNION ALL
    SELECT tenant, campaign_id, message_id, 'unsubscribed', false FROM unsubscribes
    UNION ALL
    -- RFC 6430: not-spam says that the mail was wanted.
    SELECT tenant, campaign_id, message_id, 'complained', false FROM complaints WHERE kind != 'not-spam'
)
GROUP BY tenant, campaign_id;

CREATE OR REPLACE VIEW v_provider_health DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT minute, provider, count() AS attempts, countIf(type = 'attempt.delivered') AS delivered,
    countIf(type = 'attempt.deferred') AS deferred, countIf(type = 'attempt.bounced') AS bounced,
    countIf(disposition = 'block') AS blocked, countIf(type = 'attempt.unknown') AS unknown,
    delivered / attempts AS delivery_rate, quantile(0.5)(transfer_ms) AS transfer_p50_ms,
    quantile(0.95)(transfer_ms) AS transfer_p95_ms
FROM (
    SELECT toStartOfMinute(occurred_at) AS minute, if(a.provider = '', recipient_domain, a.provider) AS provider, type,
        disposition, transfer_ms
    FROM attempts AS a FINAL
    WHERE type != 'attempt.held'
)
GROUP BY minute, provider;

-- The ledger of P2. `ended` counts ends, not messages: a second end of a message, or an end of one that was never
-- accepted, makes the difference negative.
CREATE OR REPLACE VIEW v_conservation DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, minute, countIf(is_accepted) AS accepted, sum(ends) AS ended,
    countIf(is_accepted AND ends = 0) AS in_flight, toInt64(accepted) - ended - in_flight AS difference
FROM (
    SELECT message_id, min(m.tenant) AS tenant, min(m.campaign_id) AS campaign_id,
        countIf(type = 'message.accepted') > 0 AS is_accepted,
        uniqExactIf(event_id, type != 'message.accepted') AS ends,
        toStartOfMinute(if(is_accepted, argMinIf(occurred_at, (recorded_at, kafka_offset), type = 'message.accepted'),
            min(assumeNotNull(accepted_at)))) AS minute
    FROM messages AS m
    WHERE type IN ('message.accepted', 'message.delivered', 'message.bounced', 'message.suppressed',
        'message.cancelled', 'message.expired', 'message.failed', 'message.unknown')
    GROUP BY message_id
)
GROUP BY tenant, campaign_id, minute;

-- Accepted, past its deadline by more than the five minutes that an end may take to be noticed, and without an end.
CREATE OR REPLACE VIEW v_overdue DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, tenant, stream, campaign_id, recipient_domain, provider, pool, attempts, accepted_at, expires_at,
    dateDiff('second', expires_at, now64(6)) AS overdue_s
FROM v_messages
WHERE status = 'in_flight' AND expires_at < now64(6) - INTERVAL 5 MINUTE;

-- P3: must stay empty. A suppression holds from its record on until the next record of its key that lifts it.
CREATE OR REPLACE VIEW v_suppression_breaches DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT a.message_id AS message_id, a.attempt AS attempt, a.tenant AS tenant, a.recipient_id AS recipient_id,
    a.stream AS stream, s.scope AS scope, s.reason AS reason, s.suppressed_at AS suppressed_at, a.started_at AS started_at,
    dateDiff('millisecond', s.suppressed_at, a.started_at) / 1000 AS late_s
FROM (SELECT * FROM attempts FINAL WHERE type != 'attempt.held') AS a
INNER JOIN (
    SELECT tenant, recipient_id, scope, reason, active, until, recorded_at AS suppressed_at,
        minOrNullIf(recorded_at, NOT active) OVER (
            PARTITION BY tenant, recipient_id, scope ORDER BY kafka_offset
            ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
        ) AS lifted_at
    FROM suppressions FINAL
) AS s ON a.tenant = s.tenant AND a.recipient_id = s.recipient_id
WHERE s.active AND (s.scope = '*' OR s.scope = a.stream)
    AND a.started_at > s.suppressed_at + INTERVAL 1 SECOND
    AND (s.lifted_at IS NULL OR a.started_at < s.lifted_at)
    AND (s.until IS NULL OR a.started_at < s.until);

-- P4: messages that may have been transmitted more than once. An unknown attempt may or may not have arrived.
CREATE OR REPLACE VIEW v_duplicates DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, min(a.tenant) AS tenant, min(a.campaign_id) AS campaign_id,
    countIf(type = 'attempt.delivered') AS delivered, countIf(type = 'attempt.unknown') AS unknown,
    min(started_at) AS first_at, max(started_at) AS last_at
FROM attempts AS a FINAL
WHERE type IN ('attempt.delivered', 'attempt.unknown')
GROUP BY message_id
HAVING delivered + unknown > 1;

CREATE OR REPLACE VIEW v_suppression_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, recipient_id, scope, active, reason, message_id, until, note, occurred_at, recorded_at,
    kafka_offset AS version
FROM suppressions FINAL;

CREATE OR REPLACE VIEW v_suppressions DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, recipient_id, scope, argMax(s.reason, kafka_offset) AS reason, argMax(s.message_id, kafka_offset) AS message_id,
    argMax(tuple(s.until), kafka_offset).1 AS until, argMax(s.note, kafka_offset) AS note,
    argMax(s.recorded_at, kafka_offset) AS since
FROM suppressions AS s
GROUP BY tenant, recipient_id, scope
HAVING argMax(s.active, kafka_offset) AND (until IS NULL OR until > now64(6));

CREATE OR REPLACE VIEW v_campaign_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, name, status, stream, pool, subject_template, tags, metadata, expires_after_s, occurred_at,
    recorded_at, kafka_offset AS version
FROM campaigns FINAL;

CREATE OR REPLACE VIEW v_campaigns DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, name, status, stream, pool, subject_template, tags, metadata, expires_after_s, recorded_at
FROM (SELECT * FROM campaigns FINAL ORDER BY kafka_offset DESC LIMIT 1 BY tenant, campaign_id);

CREATE OR REPLACE VIEW v_shaping_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT selector, action, value, until, rule, rule_version, evidence, occurred_at, recorded_at, kafka_offset AS version
FROM shaping FINAL;

CREATE OR REPLACE VIEW v_control_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, control_id, action, selector, reason, by, until, arguments, occurred_at, recorded_at,
    kafka_offset AS version
FROM controls FINAL;

CREATE OR REPLACE VIEW v_sites DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT domain, argMax(s.site, kafka_offset) AS site, argMax(s.provider, kafka_offset) AS provider,
    argMax(s.mx_hosts, kafka_offset) AS mx_hosts, argMax(s.recorded_at, kafka_offset) AS learned_at
FROM sites AS s
GROUP BY domain;

CREATE OR REPLACE VIEW v_deadletters DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT occurred_at, recorded_at, topic, partition, offset, group, reason, record_size, sha256
FROM deadletters FINAL;

CREATE OR REPLACE VIEW v_audits DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT occurred_at, asset, check, result, detail, attributes FROM audits FINAL;
