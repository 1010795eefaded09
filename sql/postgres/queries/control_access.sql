-- name: standing^
-- No row: there is no such organization.
SELECT
    u.id IS NOT NULL AS is_user,
    u.deactivated_at IS NULL AS active,
    coalesce(u.roles, '{}') AS roles,
    s.ended_at IS NULL AND s.expires_at > :now AS in_session
FROM control.organizations AS o
LEFT JOIN control.users AS u ON u.id = :user_id AND u.organization_id = o.id
LEFT JOIN control.sessions AS s ON s.id = :session_id AND s.user_id = u.id
WHERE o.id = :organization_id;

-- name: control_key_of_hash^
-- With how its maker stands now.
SELECT k.*, u.id IS NOT NULL AS is_user, u.deactivated_at IS NULL AS active, coalesce(u.roles, '{}') AS roles
FROM control.control_keys AS k
LEFT JOIN control.users AS u ON u.id = k.created_by AND u.organization_id = k.organization_id
WHERE k.key_hash = :key_hash;

-- name: create_control_key!
INSERT INTO control.control_keys (
    id, organization_id, name, key_hash, hint, scopes, created_by, created_at, expires_at
) VALUES (:id, :organization_id, :name, :key_hash, :hint, :scopes, :created_by, :created_at, :expires_at);

-- name: list_control_keys
SELECT *
FROM control.control_keys
WHERE organization_id = :organization_id AND (:after::uuid IS NULL OR id > :after::uuid)
ORDER BY id
LIMIT :most;

-- name: lock_control_key^
SELECT * FROM control.control_keys WHERE id = :id AND organization_id = :organization_id FOR UPDATE;

-- name: revoke_control_key!
UPDATE control.control_keys SET revoked_at = :now WHERE id = :id;

-- name: keys_were_used!
-- Of two replicas that write at once, neither waits for the other in another order.
UPDATE control.control_keys AS k
SET last_used_at = greatest(k.last_used_at, u.at)
FROM (
    SELECT l.id, g.at
    FROM unnest(:ids::uuid[], :ats::timestamptz[]) AS g (id, at)
    JOIN control.control_keys AS l ON l.id = g.id
    ORDER BY l.id
    FOR UPDATE OF l
) AS u
WHERE k.id = u.id;

-- name: take_attempt^
-- Counts an attempt in a bucket; a window that is over begins anew.
INSERT INTO control.login_attempts AS a (bucket, attempts, window_ends)
VALUES (:bucket, 1, :ends)
ON CONFLICT (bucket) DO UPDATE SET
    attempts = CASE WHEN a.window_ends <= :now THEN 1 ELSE a.attempts + 1 END,
    window_ends = CASE WHEN a.window_ends <= :now THEN excluded.window_ends ELSE a.window_ends END
RETURNING attempts, window_ends;

-- name: give_attempts_back!
-- An attempt that succeeded was none: buckets to forget, and those to count one less in. All are locked first, in the
-- order in which attempts take them: neither waits for the other in another order.
WITH held AS MATERIALIZED (
    SELECT bucket
    FROM control.login_attempts
    WHERE bucket = ANY (:forget::bytea[] || :less::bytea[])
    ORDER BY bucket
    FOR UPDATE
),
forgotten AS (
    DELETE FROM control.login_attempts
    WHERE bucket IN (SELECT bucket FROM held) AND bucket = ANY (:forget::bytea[])
)
UPDATE control.login_attempts SET attempts = attempts - 1
WHERE bucket IN (SELECT bucket FROM held) AND bucket = ANY (:less::bytea[]) AND attempts > 0;

-- name: forget_attempts!
-- Waits for nobody, so it may take them in any order; what somebody counts in is forgotten another time.
DELETE FROM control.login_attempts
WHERE bucket IN (
    SELECT bucket FROM control.login_attempts WHERE window_ends < :before LIMIT :most FOR UPDATE SKIP LOCKED
);
