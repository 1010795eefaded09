-- How large a batch's records are in the log: what of it is read again for ClickHouse is bounded by that. 0 for what
-- was billed before.
ALTER TABLE ledger.batches ADD COLUMN size bigint NOT NULL DEFAULT 0;
