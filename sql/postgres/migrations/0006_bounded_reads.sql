-- What is asked of the ledger stays short, however many days it holds.

-- Verified blocks are compared page by page.
CREATE INDEX blocks_by_number ON ledger.blocks (partition, block);

-- As before, but the last batch of the day is found by the key, not by looking through the day.
CREATE OR REPLACE FUNCTION ledger.drop_day(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    batches text := 'batches_' || to_char(day, 'YYYYMMDD');
    blocks text := 'blocks_' || to_char(day, 'YYYYMMDD');
    day_end timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('ledger.drop_day')) THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM ledger.blocks WHERE created_at < day_end AND verified_at IS NULL) OR EXISTS (
        SELECT
        FROM ledger.partitions p
        CROSS JOIN LATERAL generate_series(0, p.incarnation) AS i (incarnation)
        CROSS JOIN LATERAL (
            SELECT next_offset FROM ledger.batches
            WHERE partition = p.partition AND incarnation = i.incarnation AND billed_at < day_end
            ORDER BY first_offset DESC LIMIT 1
        ) b
        LEFT JOIN LATERAL (
            SELECT min(first_offset) AS first_offset FROM ledger.blocks
            WHERE partition = p.partition AND incarnation = i.incarnation AND verified_at IS NULL
        ) k ON true
        WHERE b.next_offset > k.first_offset OR (i.incarnation = p.incarnation AND b.next_offset > p.blocked_offset)
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS ledger.%I, ledger.%I', batches, blocks);
    DELETE FROM ledger.batches_default WHERE billed_at < day_end;
    DELETE FROM ledger.blocks_default WHERE created_at < day_end;
    RETURN true;
END $$;
