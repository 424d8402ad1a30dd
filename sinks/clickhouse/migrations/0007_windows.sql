-- When a campaign's mail may be attempted; empty texts: as its stream's.
ALTER TABLE campaigns ADD COLUMN IF NOT EXISTS window Tuple(days String, hours String, zone String);
