-- name: history
-- The incarnations of a partition after its first one.
SELECT incarnation, base, first_offset, former_next_offset,
       (extract(epoch FROM began_at) * 1000)::bigint AS began_at_ms
FROM ledger.incarnations
WHERE partition = :partition
ORDER BY incarnation;

-- name: last_batch_within^
-- The last batch that lies between two offsets and whose last record can be told from another one.
SELECT next_offset, last_record_hash
FROM ledger.batches
WHERE partition = :partition AND incarnation = :incarnation AND last_record_hash IS NOT NULL
  AND first_offset >= :first_offset AND first_offset < :next_offset AND next_offset <= :next_offset
ORDER BY first_offset DESC
LIMIT 1;

-- name: first_batch_within^
-- The first batch that lies between two offsets and whose last record can be told from another one.
SELECT next_offset, last_record_hash
FROM ledger.batches
WHERE partition = :partition AND incarnation = :incarnation AND last_record_hash IS NOT NULL
  AND first_offset >= :first_offset AND first_offset < :next_offset AND next_offset <= :next_offset
ORDER BY first_offset
LIMIT 1;

-- name: billed_from^
-- What was billed of an incarnation in the next batches at or above an offset, and where the last of them ends; null
-- when there is none. A page at a time: it may be days of them, and every transaction is short.
SELECT coalesce(sum(event_rows), 0)::bigint AS event_rows, coalesce(sum(billed), 0)::bigint AS billed,
       max(next_offset) AS next_offset
FROM (
    SELECT event_rows, billed, next_offset
    FROM ledger.batches
    WHERE partition = :partition AND incarnation = :incarnation AND first_offset >= :first_offset
    ORDER BY first_offset
    LIMIT :most
) AS page;

-- name: advance_incarnation^
-- By the partition's present owner, from what it has claimed, once all that was billed stands in blocks.
UPDATE ledger.partitions
SET incarnation = incarnation + 1, next_offset = :first_offset, blocked_offset = :first_offset,
    last_record_hash = :last_record_hash
WHERE partition = :partition AND incarnation = :incarnation AND epoch = :epoch AND next_offset = :next_offset
  AND blocked_offset = next_offset
RETURNING partition, incarnation, epoch, next_offset, blocked_offset, next_block, last_record_hash;

-- name: add_incarnation!
INSERT INTO ledger.incarnations (partition, incarnation, base, first_offset, former_next_offset, log_first,
                                 log_end, lost_rows, lost_billed)
VALUES (:partition, :incarnation, :base, :first_offset, :former_next_offset, :log_first, :log_end, :lost_rows,
        :lost_billed);
