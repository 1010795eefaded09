-- A record of an outbox without a value is a tombstone: of a campaign or a key that has been gone for 30 days.
ALTER TABLE control.outbox ALTER COLUMN value DROP NOT NULL;
