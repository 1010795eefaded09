-- name: accounts
SELECT a.campaign_id::text, a.currency, a.budget, a.budget_version, a.max_impressions, a.impressions, a.clicks,
       a.conversions, a.bounces, a.unsubscribes, a.billable_impressions, a.billed, a.overdelivery, a.revenue,
       a.invalid_impressions, a.invalid_clicks, a.invalid_conversions, a.duplicates,
       c.name, c.settings -> 'pricing' ->> 'model' AS pricing_model
FROM ledger.accounts a
LEFT JOIN control.campaigns c ON c.id = a.campaign_id
ORDER BY a.campaign_id;

-- name: unbilled
SELECT campaign_id::text, reason, events FROM ledger.unbilled;

-- name: crossings
SELECT campaign_id::text, budget_version, threshold, billed FROM ledger.crossings;

-- name: partitions
SELECT partition, incarnation, next_offset, blocked_offset FROM ledger.partitions ORDER BY partition;

-- name: batches
-- What was billed of a range of an incarnation of a partition, in the order of the log.
SELECT partition, incarnation, first_offset, next_offset, epoch, event_rows, billed, duplicates, dead_letters,
       openings
FROM ledger.batches
WHERE partition = :partition AND incarnation = :incarnation
  AND next_offset > :first_offset AND first_offset < :next_offset
ORDER BY first_offset;

-- name: blocks
SELECT partition, incarnation, block, first_offset, next_offset, event_rows, billed, position_hash, epoch, attempt
FROM ledger.blocks
WHERE partition = :partition AND incarnation = :incarnation
  AND next_offset > :first_offset AND first_offset < :next_offset
ORDER BY first_offset;

-- name: not_stored$
-- How many blocks that begin below next_offset are not in ClickHouse yet.
SELECT count(*) FROM ledger.blocks
WHERE partition = :partition AND first_offset < :next_offset AND stored_at IS NULL;

-- name: incarnations
-- Logs that were cut back or replaced, of all partitions.
SELECT partition, incarnation, base, first_offset, former_next_offset, log_first, log_end, lost_rows, lost_billed,
       began_at
FROM ledger.incarnations
ORDER BY partition, incarnation;

-- name: losses
-- Rows that were billed and that ClickHouse will never hold.
SELECT partition, incarnation, block, first_offset, next_offset, event_rows, billed, found_at
FROM ledger.losses
ORDER BY id;
