-- name: create_internal_key!
-- 1 when it is new; 0 when a key of this hash is there already.
INSERT INTO control.access_keys (
    id, organization_id, name, key_hash, hint, kind, scopes, created_by, created_at, internal
) VALUES (
    :id, :organization_id, :name, :key_hash, :hint, :kind, :scopes, :created_by, :created_at, true
)
ON CONFLICT (key_hash) DO NOTHING;

-- name: revoke_internal_keys
-- Those of an organization that were made with another secret.
UPDATE control.access_keys
SET revoked_at = :now, version = version + 1
WHERE organization_id = :organization_id AND internal AND key_hash <> :key_hash AND revoked_at IS NULL
RETURNING *;
