-- name: claim_partition^
-- Makes a process the owner of a partition: a new epoch when the owner before it was another one. The topic's
-- id is not known to Kafka's clients; what tells one log from another are incarnations.
INSERT INTO ledger.partitions AS p (partition, topic_id, epoch, owner)
VALUES (:partition, '', 1, :owner)
ON CONFLICT (partition) DO UPDATE
SET epoch = p.epoch + CASE WHEN p.owner = excluded.owner THEN 0 ELSE 1 END,
    owner = excluded.owner,
    claimed_at = now()
RETURNING partition, incarnation, epoch, next_offset, blocked_offset, next_block, last_record_hash;

-- name: advance_partitions!
-- The compare-and-set of billing: nothing is billed twice, and not by an owner that was replaced. Fewer rows than
-- partitions: one of them has gone on.
UPDATE ledger.partitions p
SET next_offset = b.next_offset, last_record_hash = b.last_record_hash
FROM unnest(:partitions::integer[], :incarnations::integer[], :epochs::bigint[], :first_offsets::bigint[],
            :next_offsets::bigint[], :last_record_hashes::bytea[])
     AS b (partition, incarnation, epoch, first_offset, next_offset, last_record_hash)
WHERE p.partition = b.partition AND p.incarnation = b.incarnation AND p.epoch = b.epoch
  AND p.next_offset = b.first_offset;

-- name: owned_partition$
-- Whether the partition still has this epoch.
SELECT EXISTS (SELECT FROM ledger.partitions
               WHERE partition = :partition AND incarnation = :incarnation AND epoch = :epoch);

-- name: lock_accounts
-- In the order of their ids, which is that of the locks; what decides whether a campaign is near a threshold.
SELECT budget, max_impressions, billed, billable_impressions
FROM ledger.accounts
WHERE campaign_id = ANY(:campaign_ids::uuid[])
ORDER BY campaign_id
FOR UPDATE;

-- name: accounts
SELECT campaign_id, organization_id, currency, budget, budget_version, max_impressions, billed,
       billable_impressions, flat_billed, gate_version
FROM ledger.accounts
WHERE campaign_id = ANY(:campaign_ids::uuid[]);

-- name: add_unknown_accounts!
-- An event of a campaign that has no account was stamped by a door that knew it: count it, bill nothing.
INSERT INTO ledger.accounts (campaign_id, organization_id, currency, budget)
SELECT * FROM unnest(:campaign_ids::uuid[], :organization_ids::uuid[], :currencies::text[],
                     array_fill(0::bigint, ARRAY[cardinality(:campaign_ids::uuid[])]))
ON CONFLICT (campaign_id) DO NOTHING;

-- name: crossings_of
-- What campaigns have crossed in their present budget version; read after their accounts were locked.
SELECT c.campaign_id, c.threshold
FROM ledger.crossings c
JOIN ledger.accounts a USING (campaign_id, budget_version)
WHERE c.campaign_id = ANY(:campaign_ids::uuid[]);

-- name: add_to_accounts!
-- Money is added as numeric and stays at the largest bigint: no sum that a client can send stops a partition. Each
-- column is the text of an array, whose elements would take the driver twice as long; one of nothing but zeros comes
-- empty: unnest fills it up with NULL. (Text only for what is unnested, once: a condition on rows that are scanned
-- would read it again for each of them.)
UPDATE ledger.accounts a
SET impressions = a.impressions + coalesce(d.impressions, 0),
    clicks = a.clicks + coalesce(d.clicks, 0),
    conversions = a.conversions + coalesce(d.conversions, 0),
    bounces = a.bounces + coalesce(d.bounces, 0),
    unsubscribes = a.unsubscribes + coalesce(d.unsubscribes, 0),
    billable_impressions = a.billable_impressions + coalesce(d.billable_impressions, 0),
    billed = least(a.billed::numeric + coalesce(d.billed, 0), 9223372036854775807)::bigint,
    overdelivery = least(a.overdelivery::numeric + coalesce(d.overdelivery, 0), 9223372036854775807)::bigint,
    revenue = least(a.revenue::numeric + coalesce(d.revenue, 0), 9223372036854775807)::bigint,
    unverified_revenue
        = least(a.unverified_revenue::numeric + coalesce(d.unverified_revenue, 0), 9223372036854775807)::bigint,
    invalid_impressions = a.invalid_impressions + coalesce(d.invalid_impressions, 0),
    invalid_clicks = a.invalid_clicks + coalesce(d.invalid_clicks, 0),
    invalid_conversions = a.invalid_conversions + coalesce(d.invalid_conversions, 0),
    duplicates = a.duplicates + coalesce(d.duplicates, 0),
    flat_billed = a.flat_billed OR coalesce(d.flat_billed, false),
    gate_version = a.gate_version + coalesce(d.gates, 0),
    last_received_at = greatest(a.last_received_at,
                                timestamptz 'epoch' + d.last_received_at * interval '1 millisecond')
FROM unnest(:campaign_ids::text::uuid[], :impressions::text::bigint[], :clicks::text::bigint[],
            :conversions::text::bigint[], :bounces::text::bigint[], :unsubscribes::text::bigint[],
            :billable_impressions::text::bigint[], :billed::text::bigint[], :overdelivery::text::bigint[],
            :revenue::text::bigint[], :unverified_revenue::text::bigint[], :invalid_impressions::text::bigint[],
            :invalid_clicks::text::bigint[], :invalid_conversions::text::bigint[], :duplicates::text::bigint[],
            :flat_billed::text::boolean[], :gates::text::integer[], :last_received_at::text::bigint[])
     AS d (campaign_id, impressions, clicks, conversions, bounces, unsubscribes, billable_impressions, billed,
           overdelivery, revenue, unverified_revenue, invalid_impressions, invalid_clicks, invalid_conversions,
           duplicates, flat_billed, gates, last_received_at)
WHERE a.campaign_id = d.campaign_id;

-- name: add_unbilled!
INSERT INTO ledger.unbilled AS u (campaign_id, reason, events)
SELECT * FROM unnest(:campaign_ids::uuid[], :reasons::text[], :events::bigint[])
ON CONFLICT (campaign_id, reason) DO UPDATE SET events = u.events + excluded.events;

-- name: add_crossings!
INSERT INTO ledger.crossings (campaign_id, budget_version, threshold, billed, received_at, incarnation,
                              partition, log_offset, event_index)
SELECT * FROM unnest(:campaign_ids::uuid[], :budget_versions::integer[], :thresholds::text[], :billed::bigint[],
                     :received_at::timestamptz[], :incarnations::integer[], :partitions::integer[],
                     :log_offsets::bigint[], :event_indexes::integer[]);

-- name: add_batches*!
-- With what is told of each: to the outbox in this order, and to its relay at the commit. One round trip.
WITH batch AS (
    INSERT INTO ledger.batches (partition, incarnation, first_offset, next_offset, epoch, event_rows, billed,
                                duplicates, dead_letters, openings, last_record_hash, size)
    VALUES (:partition, :incarnation, :first_offset, :next_offset, :epoch, :event_rows, :billed,
            :duplicates, :dead_letters, :openings, :last_record_hash, :size)
), told AS (
    INSERT INTO ledger.outbox (topic, key, value, partition)
    SELECT topic, key, value, nullif(partition, -1)
    FROM unnest(:topics::text[], :keys::bytea[], :values::bytea[], :partitions::integer[])
         WITH ORDINALITY AS o (topic, key, value, partition, position)
    ORDER BY position
)
SELECT pg_notify('ledger_outbox', '');

-- name: batches_between
SELECT partition, incarnation, first_offset, next_offset, epoch, event_rows, billed, duplicates, dead_letters,
       openings, last_record_hash, size
FROM ledger.batches
WHERE partition = :partition AND incarnation = :incarnation
  AND first_offset >= :first_offset AND first_offset < :next_offset
ORDER BY first_offset
LIMIT :most::bigint;

-- name: fix_blocks_end!
-- Everything below next_offset stands in a block from now on; refused when another owner went on.
UPDATE ledger.partitions
SET blocked_offset = :next_offset, next_block = next_block + 1
WHERE partition = :partition AND incarnation = :incarnation AND epoch = :epoch
  AND blocked_offset = :first_offset AND next_block = :block;

-- name: add_block!
INSERT INTO ledger.blocks (partition, incarnation, block, first_offset, next_offset, event_rows, billed,
                           position_hash, epoch, attempt, stored_at, verified_at)
VALUES (:partition, :incarnation, :block, :first_offset, :next_offset, :event_rows, :billed, :position_hash,
        :epoch, :attempt, CASE WHEN :event_rows::bigint = 0 THEN now() END,
        CASE WHEN :event_rows::bigint = 0 THEN now() END);

-- name: add_losses!
INSERT INTO ledger.losses (partition, incarnation, block, first_offset, next_offset, event_rows, billed)
SELECT :partition, :incarnation, :block, *
FROM unnest(:first_offsets::bigint[], :next_offsets::bigint[], :event_rows::bigint[], :billed::bigint[]);

-- name: amend_block!
-- Says that a block is what can still be had of it, by the partition's present owner, from what was read.
UPDATE ledger.blocks b
SET event_rows = :event_rows, billed = :billed, position_hash = :position_hash, epoch = :epoch, attempt = :attempt,
    stored_at = NULL, verified_at = NULL
FROM ledger.partitions p
WHERE p.partition = b.partition AND p.epoch = :owner_epoch
  AND b.partition = :partition AND b.incarnation = :incarnation AND b.block = :block
  AND b.epoch = :former_epoch AND b.attempt = :former_attempt AND b.position_hash = :former_hash;

-- name: new_attempt!
-- Marks that a block is about to be inserted again, by the partition's present owner only.
UPDATE ledger.blocks b
SET epoch = :epoch, attempt = :attempt, stored_at = NULL, verified_at = NULL
FROM ledger.partitions p
WHERE p.partition = b.partition AND p.epoch = :epoch
  AND b.partition = :partition AND b.incarnation = :incarnation AND b.block = :block
  AND (b.epoch, b.attempt) < (:epoch::bigint, :attempt::integer);

-- name: mark_stored!
-- By the partition's present owner only, whichever attempt it was that ClickHouse holds. Verified it is later: an
-- insert that was given up may still arrive after what was seen now.
UPDATE ledger.blocks b
SET stored_at = now(), verified_at = NULL
FROM ledger.partitions p
WHERE p.partition = b.partition AND p.epoch = :owner_epoch
  AND b.partition = :partition AND b.incarnation = :incarnation AND b.block = :block;

-- name: mark_verified!
-- By the partition's present owner, of the very attempts that were looked at: who wakes up late says nothing of
-- what others have inserted since.
UPDATE ledger.blocks b
SET verified_at = now()
FROM ledger.partitions p,
     unnest(:incarnations::integer[], :blocks::bigint[], :epochs::bigint[], :attempts::integer[])
     AS seen (incarnation, block, epoch, attempt)
WHERE p.partition = b.partition AND p.epoch = :owner_epoch AND b.partition = :partition
  AND b.incarnation = seen.incarnation AND b.block = seen.block AND b.epoch = seen.epoch
  AND b.attempt = seen.attempt AND b.stored_at IS NOT NULL;

-- name: blocks_left^
-- How many of these blocks the ledger still has, and whether the partition's owner is the one of the epoch.
SELECT (SELECT count(*)
        FROM ledger.blocks b, unnest(:incarnations::integer[], :blocks::bigint[]) AS seen (incarnation, block)
        WHERE b.partition = :partition AND b.incarnation = seen.incarnation AND b.block = seen.block) AS blocks,
       EXISTS (SELECT FROM ledger.partitions
               WHERE partition = :partition AND epoch = :owner_epoch) AS owned;

-- name: blocks_verified
-- Blocks with rows that were seen to be exact before, of all incarnations.
SELECT partition, incarnation, block, first_offset, next_offset, event_rows, billed, position_hash, epoch, attempt
FROM ledger.blocks
WHERE partition = :partition AND block > :after AND event_rows > 0 AND verified_at IS NOT NULL
ORDER BY block
LIMIT :most;

-- name: comparison_is_due$
SELECT compared_at <= now() - :every_seconds::float8 * interval '1 second'
FROM ledger.partitions
WHERE partition = :partition;

-- name: mark_compared!
UPDATE ledger.partitions SET compared_at = now() WHERE partition = :partition AND epoch = :epoch;

-- name: find_block^
SELECT partition, incarnation, block, first_offset, next_offset, event_rows, billed, position_hash, epoch, attempt
FROM ledger.blocks
WHERE partition = :partition AND incarnation = :incarnation AND block = :block;

-- name: blocks_not_stored
SELECT partition, incarnation, block, first_offset, next_offset, event_rows, billed, position_hash, epoch, attempt
FROM ledger.blocks
WHERE partition = :partition AND stored_at IS NULL
ORDER BY block;

-- name: blocks_not_verified
-- Stored blocks that no one has verified yet and that are older than the given age.
SELECT partition, incarnation, block, first_offset, next_offset, event_rows, billed, position_hash, epoch, attempt
FROM ledger.blocks
WHERE partition = :partition
  AND stored_at <= now() - :age_seconds::float8 * interval '1 second' AND verified_at IS NULL
ORDER BY block
LIMIT :most;

-- name: duplicates_between
-- Positions that were not counted, for rebuilding the seen ids from the log: of the batches that lie in the range.
-- From the batch on that holds its beginning: without that bound all that is kept of the partition would be looked
-- through.
SELECT unnest(duplicates) AS position
FROM ledger.batches
WHERE partition = :partition AND incarnation = :incarnation AND next_offset > :first_offset
  AND first_offset < :next_offset
  AND first_offset >= coalesce(
      (SELECT max(b.first_offset) FROM ledger.batches b
       WHERE b.partition = :partition AND b.incarnation = :incarnation AND b.first_offset <= :first_offset), 0);

-- name: create_day!
SELECT ledger.create_day(:day);

-- name: old_days
-- By the earlier of two clocks, the caller's and that of Postgres: one that is days ahead drops nothing early.
SELECT day FROM ledger.old_days(least(:today::date, (now() AT TIME ZONE 'UTC')::date), :keep_days) AS day;

-- name: drop_day$
SELECT ledger.drop_day(:day);

-- name: log_needed_from$
-- Below it the log is needed no more: what is billed there is verified as stored. The last billed record stays, to
-- tell this log from another one.
SELECT least(p.blocked_offset, p.next_offset - 1,
             (SELECT min(b.first_offset) FROM ledger.blocks b
              WHERE b.partition = p.partition AND b.verified_at IS NULL))
FROM ledger.partitions p
WHERE p.partition = :partition;

-- name: stored_to$
-- Everything below is in ClickHouse; -1 while something of an earlier incarnation is not.
SELECT least(p.blocked_offset,
             (SELECT min(CASE WHEN b.incarnation = p.incarnation THEN b.first_offset ELSE -1 END)
              FROM ledger.blocks b WHERE b.partition = p.partition AND b.stored_at IS NULL))
FROM ledger.partitions p
WHERE p.partition = :partition;
