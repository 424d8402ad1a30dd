-- Who ended an override and why; and when a campaign's mail might be attempted.
ALTER TABLE shaping ADD COLUMN IF NOT EXISTS reason String, ADD COLUMN IF NOT EXISTS by String;

CREATE OR REPLACE VIEW v_shaping_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT selector, action, value, until, rule, rule_version, evidence, reason, by, occurred_at, recorded_at,
    kafka_offset AS version
FROM shaping FINAL;

CREATE OR REPLACE VIEW v_campaign_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, name, status, stream, pool, subject_template, tags, metadata, expires_after_s, window,
    occurred_at, recorded_at, kafka_offset AS version
FROM campaigns FINAL;
