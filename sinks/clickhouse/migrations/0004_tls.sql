-- How well each attempt was protected: by which policy, and what TLS could not do (RFC 8460 section 4.3).

ALTER TABLE attempts
    ADD COLUMN IF NOT EXISTS tls_policy LowCardinality(String),
    ADD COLUMN IF NOT EXISTS tls_failure LowCardinality(String);

CREATE OR REPLACE VIEW v_attempts DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT message_id, attempt, substring(type, 9) AS outcome, started_at, occurred_at, next_at, tenant, stream, campaign_id,
    recipient_id, recipient_domain, provider, pool, site, source, worker, mx_host, mx_ip, session_id, stage, cause,
    connect_ms, transfer_ms, tls_version, tls_cipher, tls_verified, tls_policy, tls_failure, reply_code, reply_enhanced,
    reply_text, bounce_class AS class, disposition, rule, classifier_version, recorded_at
FROM attempts FINAL;

-- Sessions, not messages: a session is named by its worker and its number. Attempts of one session have one result.
-- Unique counts only, so rows that came twice change nothing.
CREATE OR REPLACE VIEW v_tls_report DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT toDate(a.occurred_at) AS day, a.recipient_domain AS policy_domain,
    multiIf(a.tls_policy = 'dane', 'tlsa', startsWith(a.tls_policy, 'sts'), 'sts', 'no-policy-found') AS policy_type,
    -- Without a policy nothing is asked of a certificate: encrypted is well.
    if(policy_type = 'no-policy-found' AND a.tls_version != '', '', a.tls_failure) AS result_type,
    a.source AS source, a.mx_host AS receiving_mx_hostname, a.mx_ip AS receiving_ip,
    uniqExact(a.worker, a.session_id) AS sessions
FROM attempts AS a
WHERE a.type != 'attempt.held' AND a.tls_policy NOT IN ('', 'none') AND (a.tls_version != '' OR a.tls_failure != '')
GROUP BY day, policy_domain, policy_type, result_type, a.source, receiving_mx_hostname, receiving_ip;
