-- What the compacted topics must hold, for their read-back. `version` is NULL where the value has been gone for
-- so long that it is to be a tombstone; `pending` is whether an outbox has something for the key already.

-- name: campaign_state_page
SELECT
    c.id::text AS key,
    CASE WHEN coalesce(c.deleted_at > :gone_before::timestamptz, true) THEN c.version END AS version,
    EXISTS (
        SELECT 1 FROM control.outbox AS o WHERE o.topic = 'campaign-state' AND o.key = convert_to(c.id::text, 'UTF8')
    ) AS pending
FROM control.campaigns AS c
WHERE c.id > :after::uuid
ORDER BY c.id
LIMIT :most;

-- name: campaign_states_of
SELECT
    c.id::text AS key,
    CASE WHEN coalesce(c.deleted_at > :gone_before::timestamptz, true) THEN c.version END AS version,
    EXISTS (
        SELECT 1 FROM control.outbox AS o WHERE o.topic = 'campaign-state' AND o.key = convert_to(c.id::text, 'UTF8')
    ) AS pending
FROM control.campaigns AS c
WHERE c.id = ANY (:keys::uuid[]);

-- name: share_campaigns
-- Nobody changes them until the outbox has what is read here.
SELECT * FROM control.campaigns WHERE id = ANY (:keys::uuid[]) ORDER BY id FOR SHARE;

-- name: access_key_page
SELECT
    k.key_hash AS key,
    CASE WHEN coalesce(k.revoked_at > :gone_before::timestamptz, true) THEN k.version END AS version,
    EXISTS (
        SELECT 1 FROM control.outbox AS o WHERE o.topic = 'access-keys' AND o.key = convert_to(k.key_hash, 'UTF8')
    ) AS pending
FROM control.access_keys AS k
WHERE k.key_hash > :after
ORDER BY k.key_hash
LIMIT :most;

-- name: access_keys_of
SELECT
    k.key_hash AS key,
    CASE WHEN coalesce(k.revoked_at > :gone_before::timestamptz, true) THEN k.version END AS version,
    EXISTS (
        SELECT 1 FROM control.outbox AS o WHERE o.topic = 'access-keys' AND o.key = convert_to(k.key_hash, 'UTF8')
    ) AS pending
FROM control.access_keys AS k
WHERE k.key_hash = ANY (:keys::text[]);

-- name: share_keys
SELECT * FROM control.access_keys WHERE key_hash = ANY (:keys::text[]) ORDER BY key_hash FOR SHARE;

-- name: budget_gate_page
SELECT
    a.campaign_id::text AS key,
    a.gate_version AS version,
    EXISTS (
        SELECT 1
        FROM ledger.outbox AS o
        WHERE o.topic = 'budget-gates' AND o.key = convert_to(a.campaign_id::text, 'UTF8')
    ) AS pending
FROM ledger.accounts AS a
WHERE a.campaign_id > :after::uuid AND a.gate_version > 0
ORDER BY a.campaign_id
LIMIT :most;

-- name: budget_gates_of
SELECT
    a.campaign_id::text AS key,
    a.gate_version AS version,
    EXISTS (
        SELECT 1
        FROM ledger.outbox AS o
        WHERE o.topic = 'budget-gates' AND o.key = convert_to(a.campaign_id::text, 'UTF8')
    ) AS pending
FROM ledger.accounts AS a
WHERE a.campaign_id = ANY (:keys::uuid[]) AND a.gate_version > 0;

-- name: share_accounts!
-- Before `gates_of`, in a statement of its own: what is read beside rows that were waited for would be older.
SELECT FROM ledger.accounts WHERE campaign_id = ANY (:keys::uuid[]) ORDER BY campaign_id FOR SHARE;

-- name: gates_of
-- The gates of these campaigns as they were published last: all that is crossed in the newest budget version in
-- which an event crossed anything (a crossing by a lowered budget has no event, and no gate of its own).
SELECT
    a.campaign_id, a.organization_id, a.gate_version, g.budget_version, g.thresholds, n.billed, n.received_at,
    n.incarnation, n.partition, n.log_offset, n.event_index
FROM ledger.accounts AS a
CROSS JOIN LATERAL (
    SELECT c.budget_version, array_agg(c.threshold) AS thresholds
    FROM ledger.crossings AS c
    WHERE c.campaign_id = a.campaign_id AND c.budget_version = (
        SELECT max(e.budget_version) FROM ledger.crossings AS e WHERE e.campaign_id = a.campaign_id AND e.partition >= 0
    )
    GROUP BY c.budget_version
) AS g
CROSS JOIN LATERAL (
    SELECT *
    FROM ledger.crossings AS c
    WHERE c.campaign_id = a.campaign_id AND c.budget_version = g.budget_version AND c.partition >= 0
    ORDER BY c.billed DESC, c.crossed_at DESC, c.log_offset DESC, c.event_index DESC
    LIMIT 1
) AS n
WHERE a.campaign_id = ANY (:keys::uuid[]) AND a.gate_version > 0
ORDER BY a.campaign_id;

-- name: add_to_control_outbox!
INSERT INTO control.outbox (topic, key, value)
SELECT :topic, key, value
FROM unnest(:keys::bytea[], :values::bytea[]) WITH ORDINALITY AS o (key, value, position)
ORDER BY position;

-- name: add_to_ledger_outbox!
INSERT INTO ledger.outbox (topic, key, value)
SELECT :topic, key, value
FROM unnest(:keys::bytea[], :values::bytea[]) WITH ORDINALITY AS o (key, value, position)
ORDER BY position;

-- name: wake_ledger_relay!
SELECT pg_notify('ledger_outbox', '');

-- name: control_outbox_size$
-- How many records wait for Kafka, counted up to a bound.
SELECT count(*) FROM (SELECT 1 FROM control.outbox LIMIT :most::bigint) AS o;

-- name: ledger_outbox_size$
SELECT count(*) FROM (SELECT 1 FROM ledger.outbox LIMIT :most::bigint) AS o;
