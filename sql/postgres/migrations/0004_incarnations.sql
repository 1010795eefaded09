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
