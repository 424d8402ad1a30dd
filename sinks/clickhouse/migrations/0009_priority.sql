-- Of the sends of a campaign that say none of their own; empty: normal.
ALTER TABLE campaigns ADD COLUMN IF NOT EXISTS priority LowCardinality(String);

CREATE OR REPLACE VIEW v_campaign_history DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT tenant, campaign_id, name, status, stream, pool, subject_template, tags, metadata, expires_after_s, window,
    priority, occurred_at, recorded_at, kafka_offset AS version
FROM campaigns FINAL;
