-- name: lock_offset$
-- Where a partition goes on; from its beginning at first.
INSERT INTO control.webhook_offsets (partition, next_offset)
VALUES (:partition, 0)
ON CONFLICT (partition) DO UPDATE SET next_offset = webhook_offsets.next_offset
RETURNING next_offset;

-- name: set_offset!
UPDATE control.webhook_offsets SET next_offset = :next_offset WHERE partition = :partition;

-- name: add_delivery!
-- 0 when this event is there already.
INSERT INTO control.webhook_deliveries (
    id, webhook_id, organization_id, event_id, event_type, subject, payload, next_attempt_at, created_at
) VALUES (
    :id, :webhook_id, :organization_id, :event_id, :event_type, :subject, :payload, :now, :now
)
ON CONFLICT (webhook_id, event_id) DO NOTHING;

-- name: claim
-- Due deliveries, each organization's first before any one's second, and in it each webhook's first before any
-- webhook's second, so that a long backlog of one does not hold up the others; `busy` is how many of each webhook, and
-- of each organization, are being sent already. FOR UPDATE looks at the row once more when another one has claimed it
-- meanwhile.
WITH first AS (
    SELECT
        of_one.id,
        of_one.next_attempt_at,
        row_number() OVER (PARTITION BY w.organization_id ORDER BY of_one.place, of_one.next_attempt_at)
            + coalesce(others.sending, 0) AS place
    FROM control.webhooks AS w
    LEFT JOIN unnest(:busy_webhooks::uuid[], :busy_counts::int[]) AS busy (webhook_id, sending)
        ON busy.webhook_id = w.id
    LEFT JOIN unnest(:busy_organizations::uuid[], :organization_counts::int[]) AS others (organization_id, sending)
        ON others.organization_id = w.organization_id
    CROSS JOIN LATERAL (
        SELECT
            oldest.id,
            oldest.next_attempt_at,
            row_number() OVER (ORDER BY oldest.next_attempt_at) + coalesce(busy.sending, 0) AS place
        FROM (
            SELECT d.id, d.next_attempt_at
            FROM control.webhook_deliveries AS d
            WHERE d.webhook_id = w.id AND d.state = 'PENDING' AND d.next_attempt_at <= :now
            ORDER BY d.next_attempt_at
            LIMIT :each
        ) AS oldest
    ) AS of_one
    WHERE w.active AND of_one.place <= :each
),
due AS (
    SELECT id
    FROM first
    WHERE place <= :each_organization
    ORDER BY place, next_attempt_at
    LIMIT :most
),
free AS (
    SELECT d.id
    FROM control.webhook_deliveries AS d
    WHERE d.id IN (SELECT id FROM due) AND d.state = 'PENDING' AND d.next_attempt_at <= :now
    FOR UPDATE SKIP LOCKED
)
UPDATE control.webhook_deliveries AS d
SET claim = :claim, attempts = d.attempts + 1, last_attempt_at = :now, next_attempt_at = :lease
FROM control.webhooks AS w
WHERE d.id IN (SELECT id FROM free) AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.organization_id, d.event_id, d.payload, d.attempts, w.url, w.secret,
    CASE WHEN w.previous_until > :now THEN w.previous_secret END AS previous_secret;

-- name: record!
-- The outcome of an attempt; 0 when the delivery was claimed by another one since, or given up and not delivered.
UPDATE control.webhook_deliveries
SET
    state = :state,
    next_attempt_at = :next_attempt_at,
    response_status = :response_status,
    response = :response,
    error = :error,
    milliseconds = :milliseconds,
    delivered_at = CASE WHEN :state = 'DELIVERED' THEN :now ELSE delivered_at END
WHERE id = :id AND claim = :claim AND (state = 'PENDING' OR :state = 'DELIVERED');

-- name: give_up_pending!
-- Some of what waits for a webhook that is not active any more; give_up_unsendable finds the rest, and what somebody
-- holds at this moment.
UPDATE control.webhook_deliveries
SET state = 'DEAD', error = coalesce(error, :error)
WHERE id IN (
    SELECT id
    FROM control.webhook_deliveries
    WHERE webhook_id = :webhook_id AND state = 'PENDING'
    ORDER BY next_attempt_at
    LIMIT :most
    FOR UPDATE SKIP LOCKED
);

-- name: give_up_unsendable!
-- Some of what waits for webhooks that are not active, or not there any more. The first CTE leaps over the index from
-- one webhook to the next, however much waits for each.
WITH RECURSIVE waiting AS (
    (
        SELECT webhook_id
        FROM control.webhook_deliveries
        WHERE state = 'PENDING'
        ORDER BY webhook_id
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT d.webhook_id
        FROM control.webhook_deliveries AS d
        WHERE d.state = 'PENDING' AND d.webhook_id > w.webhook_id
        ORDER BY d.webhook_id
        LIMIT 1
    )
    FROM waiting AS w
    WHERE w.webhook_id IS NOT NULL
),
unsendable AS (
    SELECT of_one.id, coalesce(h.inactive_reason = 'GONE', false) AS is_gone
    FROM waiting AS w
    LEFT JOIN control.webhooks AS h ON h.id = w.webhook_id
    CROSS JOIN LATERAL (
        SELECT d.id
        FROM control.webhook_deliveries AS d
        WHERE d.webhook_id = w.webhook_id AND d.state = 'PENDING'
        ORDER BY d.next_attempt_at
        LIMIT :most
    ) AS of_one
    WHERE h.active IS NOT true
    LIMIT :most
),
free AS (
    SELECT id
    FROM control.webhook_deliveries
    WHERE id IN (SELECT id FROM unsendable) AND state = 'PENDING'
    FOR UPDATE SKIP LOCKED
)
UPDATE control.webhook_deliveries AS d
SET state = 'DEAD', error = coalesce(d.error, CASE WHEN u.is_gone THEN :gone ELSE :deactivated END)
FROM unsendable AS u
WHERE d.id IN (SELECT id FROM free) AND u.id = d.id;

-- name: get_delivery^
SELECT * FROM control.webhook_deliveries WHERE id = :id AND webhook_id = :webhook_id;

-- name: list_deliveries
-- The newest first.
SELECT *
FROM control.webhook_deliveries
WHERE webhook_id = :webhook_id AND id < :before
ORDER BY id DESC
LIMIT :most;

-- name: list_deliveries_in
-- The same of one state: a list of all its states would be read whole.
SELECT *
FROM control.webhook_deliveries
WHERE webhook_id = :webhook_id AND state = :state AND id < :before
ORDER BY id DESC
LIMIT :most;

-- name: redeliver!
UPDATE control.webhook_deliveries
SET state = 'PENDING', attempts = 0, claim = NULL, next_attempt_at = :now, error = NULL
WHERE id = :id;

-- name: redeliver_dead!
-- The oldest dead ones, so many.
UPDATE control.webhook_deliveries
SET state = 'PENDING', attempts = 0, claim = NULL, next_attempt_at = :now, error = NULL
WHERE id IN (
    SELECT d.id
    FROM control.webhook_deliveries AS d
    WHERE d.webhook_id = :webhook_id AND d.state = 'DEAD'
    ORDER BY d.id
    LIMIT :most
    FOR UPDATE
);

-- name: forget_deliveries!
DELETE FROM control.webhook_deliveries
WHERE id IN (SELECT id FROM control.webhook_deliveries WHERE created_at < :before LIMIT :most);

-- name: backlog^
-- What waits for active webhooks, counted up to a bound, and since when the oldest of it could have been there.
SELECT count(*) AS pending, min(counted.created_at) AS oldest
FROM (
    SELECT d.created_at
    FROM control.webhook_deliveries AS d
    JOIN control.webhooks AS w ON w.id = d.webhook_id
    WHERE d.state = 'PENDING' AND w.active
    LIMIT :most
) AS counted;
