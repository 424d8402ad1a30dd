-- The sites that a domain had, and until when.
ALTER TABLE sites ADD COLUMN IF NOT EXISTS former Array(Tuple(site String, until DateTime64(6, 'UTC')));
