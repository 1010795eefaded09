-- name: create_key!
-- 1 when it is new; 0 when a key of this hash is there already.
INSERT INTO control.access_keys (
    id, organization_id, name, key_hash, hint, kind, scopes, allowed_origins, events_per_second, burst, created_by,
    created_at, expires_at
) VALUES (
    :id, :organization_id, :name, :key_hash, :hint, :kind, :scopes, :allowed_origins, :events_per_second, :burst,
    :created_by, :created_at, :expires_at
)
ON CONFLICT (key_hash) DO NOTHING;

-- name: list_keys
SELECT *
FROM control.access_keys
WHERE organization_id = :organization_id AND NOT internal AND (:after::uuid IS NULL OR id > :after::uuid)
ORDER BY id
LIMIT :most;

-- name: lock_key^
SELECT * FROM control.access_keys
WHERE id = :id AND organization_id = :organization_id AND NOT internal
FOR UPDATE;

-- name: revoke_key!
UPDATE control.access_keys SET revoked_at = :now, version = version + 1 WHERE id = :id;
