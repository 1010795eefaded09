-- A log that is not the one that was billed: what tells it, what began then, and what was lost with it.

-- Of a batch's last record, so that the first batch can be found that another log does not hold. NULL in rows
-- of before.
ALTER TABLE ledger.batches ADD COLUMN last_record_hash bytea;
UPDATE ledger.batches b
SET last_record_hash = p.last_record_hash
FROM ledger.partitions p
WHERE p.partition = b.partition AND p.incarnation = b.incarnation AND p.next_offset = b.next_offset;

-- Each incarnation after the first of a partition. What was billed of the one before at or above its first
-- offset is in the log no more: it stays billed.
CREATE TABLE ledger.incarnations (
    partition          integer NOT NULL,
    incarnation        integer NOT NULL CHECK (incarnation > 0),
    base               integer,                               -- whose log goes on below first_offset; NULL: none
    first_offset       bigint NOT NULL,
    former_next_offset bigint NOT NULL,                       -- how far the incarnation before was billed
    log_first          bigint NOT NULL,                       -- what the log held when it was found to differ
    log_end            bigint NOT NULL,
    lost_rows          bigint NOT NULL,                       -- events billed of the one before, not in this log
    lost_billed        bigint NOT NULL,                       -- micros, over all currencies
    began_at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, incarnation)
);

-- Rows that were billed and that ClickHouse will never hold: it did not have them when their records had gone.
CREATE TABLE ledger.losses (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition    integer NOT NULL,
    incarnation  integer NOT NULL,
    block        bigint NOT NULL,
    first_offset bigint NOT NULL,
    next_offset  bigint NOT NULL,
    event_rows   bigint NOT NULL,                             -- negative: ClickHouse holds more than was billed
    billed       bigint NOT NULL,                             -- micros, over all currencies
    found_at     timestamptz NOT NULL DEFAULT now()
);

-- Days of batches and blocks that are old enough to go (UTC, before `today - keep_days`), the oldest first.
CREATE FUNCTION ledger.old_days(today date, keep_days integer) RETURNS SETOF date LANGUAGE sql AS $$
    SELECT DISTINCT to_date(right(c.relname, 8), 'YYYYMMDD')
    FROM pg_inherits i
    JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent IN ('ledger.batches'::regclass, 'ledger.blocks'::regclass) AND c.relname ~ '_[0-9]{8}$'
      AND to_date(right(c.relname, 8), 'YYYYMMDD') < today - keep_days
    ORDER BY 1
$$;

-- Drops a day of batches and blocks, and what of it stands in the default partitions; false, and nothing done,
-- while anything of the day is not verified as stored. Blocks go with their batches, never before.
CREATE FUNCTION ledger.drop_day(day date) RETURNS boolean LANGUAGE plpgsql AS $$
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
        FROM (SELECT partition, incarnation, max(next_offset) AS next_offset FROM ledger.batches
              WHERE billed_at < day_end GROUP BY partition, incarnation) b
        LEFT JOIN (SELECT partition, incarnation, min(first_offset) AS first_offset FROM ledger.blocks
                   WHERE verified_at IS NULL GROUP BY partition, incarnation) k USING (partition, incarnation)
        LEFT JOIN ledger.partitions p USING (partition, incarnation)
        WHERE b.next_offset > k.first_offset OR b.next_offset > p.blocked_offset
    ) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE IF EXISTS ledger.%I, ledger.%I', batches, blocks);
    DELETE FROM ledger.batches_default WHERE billed_at < day_end;
    DELETE FROM ledger.blocks_default WHERE created_at < day_end;
    RETURN true;
END $$;

-- When all blocks of a partition were last compared with ClickHouse.
ALTER TABLE ledger.partitions ADD COLUMN compared_at timestamptz NOT NULL DEFAULT now();
