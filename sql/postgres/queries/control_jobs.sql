-- name: add_job!
INSERT INTO control.jobs (
    id, organization_id, state, format, mode, dry_run, created_by, actor, correlation_id, traceparent, address,
    created_at
) VALUES (
    :id, :organization_id, 'receiving', :format, :mode, :dry_run, :created_by, :actor, :correlation_id, :traceparent,
    :address, :created_at
);

-- name: count_unfinished$
SELECT count(*) FROM control.jobs WHERE organization_id = :organization_id AND finished_at IS NULL;

-- name: add_piece!
INSERT INTO control.job_pieces (job_id, number, content) VALUES (:job_id, :number, :content);

-- name: get_piece$
SELECT content FROM control.job_pieces WHERE job_id = :job_id AND number = :number;

-- name: queue_job!
UPDATE control.jobs SET state = 'queued', size = :size WHERE id = :id AND state = 'receiving';

-- name: drop_received!
-- A file that was not received to its end, or that was received before.
DELETE FROM control.jobs WHERE id = :id AND state = 'receiving';

-- name: get_job^
SELECT * FROM control.jobs WHERE id = :id AND organization_id = :organization_id AND state <> 'receiving';

-- name: lock_job^
SELECT *
FROM control.jobs
WHERE id = :id AND organization_id = :organization_id AND state <> 'receiving'
FOR UPDATE;

-- name: claim_job^
-- The oldest job that nobody works on. One of an organization at a time, as far as can be seen. Nothing of a dry run
-- is kept from one claim to the next: it begins anew.
UPDATE control.jobs
SET state = 'running', epoch = epoch + 1, leased_until = now() + :lease::interval,
    started_at = coalesce(started_at, :now),
    next_row = CASE WHEN dry_run THEN 0 ELSE next_row END,
    created = CASE WHEN dry_run THEN 0 ELSE created END,
    updated = CASE WHEN dry_run THEN 0 ELSE updated END,
    unchanged = CASE WHEN dry_run THEN 0 ELSE unchanged END,
    failed = CASE WHEN dry_run THEN 0 ELSE failed END
WHERE id = (
    SELECT j.id
    FROM control.jobs AS j
    WHERE (j.state = 'queued' OR (j.state = 'running' AND j.leased_until < now()))
        AND NOT EXISTS (
            SELECT 1
            FROM control.jobs AS o
            WHERE o.organization_id = j.organization_id AND o.state = 'running' AND o.leased_until >= now()
        )
    ORDER BY j.created_at, j.id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING *;

-- name: forget_errors!
DELETE FROM control.job_errors WHERE job_id = :job_id;

-- name: renew_lease!
-- 0 for whoever has lost it.
UPDATE control.jobs
SET leased_until = now() + :lease::interval
WHERE id = :id AND epoch = :epoch AND state = 'running';

-- name: hold_job^
-- First in a transaction that works on the job: nobody else does until it ends.
SELECT * FROM control.jobs WHERE id = :id AND epoch = :epoch AND state = 'running' FOR UPDATE;

-- name: count_rows!
UPDATE control.jobs SET rows_total = :rows_total WHERE id = :id AND epoch = :epoch AND state = 'running';

-- name: advance_job!
UPDATE control.jobs
SET next_row = :next_row, created = created + :created, updated = updated + :updated,
    unchanged = unchanged + :unchanged, failed = failed + :failed, leased_until = now() + :lease::interval
WHERE id = :id;

-- name: add_errors!
INSERT INTO control.job_errors (job_id, row, line, errors)
SELECT :job_id, e.row, e.line, e.errors::json
FROM unnest(:rows::integer[], :lines::integer[], :errors::text[]) AS e (row, line, errors);

-- name: add_campaigns!
INSERT INTO control.job_campaigns (job_id, campaign_id)
SELECT :job_id, c.id FROM unnest(:ids::uuid[]) AS c (id)
ON CONFLICT DO NOTHING;

-- name: campaigns_of_job
SELECT campaign_id FROM control.job_campaigns WHERE job_id = :job_id AND campaign_id = ANY (:ids::uuid[]);

-- name: drop_campaigns!
DELETE FROM control.job_campaigns WHERE job_id = :job_id;

-- name: errors_after
SELECT row, line, errors FROM control.job_errors WHERE job_id = :job_id AND row > :row ORDER BY row LIMIT :most;

-- name: finish_job!
UPDATE control.jobs
SET state = :state, failure = :failure, finished_at = :now, leased_until = NULL
WHERE id = :id;

-- name: drop_pieces!
DELETE FROM control.job_pieces WHERE job_id = :job_id;

-- name: request_cancel!
UPDATE control.jobs SET cancel_requested = true WHERE id = :id;

-- name: forget_old_errors!
-- Errors of old jobs, in parts: a job may have a hundred thousand of them.
DELETE FROM control.job_errors
WHERE (job_id, row) IN (
    SELECT e.job_id, e.row
    FROM control.jobs AS j
    CROSS JOIN LATERAL (
        SELECT job_id, row FROM control.job_errors WHERE job_id = j.id LIMIT :most
    ) AS e
    WHERE j.finished_at < :finished_before
    LIMIT :most
);

-- name: forget_jobs!
-- Those that have no errors left.
DELETE FROM control.jobs
WHERE id IN (
    SELECT j.id
    FROM control.jobs AS j
    WHERE (j.finished_at < :finished_before OR (j.state = 'receiving' AND j.created_at < :received_before))
        AND NOT EXISTS (SELECT 1 FROM control.job_errors WHERE job_id = j.id)
    LIMIT :most
);

-- name: names
-- Each of these names as names are compared, and the campaign that has it.
SELECT n.name, lower(n.name) AS key, c.id AS campaign_id, c.name AS campaign_name
FROM unnest(:names::text[]) AS n (name)
LEFT JOIN control.campaigns AS c
    ON c.organization_id = :organization_id AND lower(c.name) = lower(n.name) AND c.status <> 'CANCELLED'
    AND c.deleted_at IS NULL;

-- name: outbox_size$
-- How many records wait for Kafka, counted up to a bound.
SELECT count(*) FROM (SELECT 1 FROM control.outbox LIMIT :most::bigint) AS o;
