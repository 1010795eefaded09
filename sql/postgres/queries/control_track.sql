-- name: create_internal_key^
-- The key when it is new, or valid again: the secret that it was made with was put back. No row when it is there.
INSERT INTO control.access_keys (
    id, organization_id, name, key_hash, hint, kind, scopes, created_by, created_at, internal
) VALUES (
    :id, :organization_id, :name, :key_hash, :hint, :kind, :scopes, :created_by, :created_at, true
)
ON CONFLICT (key_hash) DO UPDATE SET revoked_at = NULL, version = access_keys.version + 1
WHERE access_keys.internal AND access_keys.revoked_at IS NOT NULL
RETURNING *;

-- name: revoke_internal_keys
-- Those of an organization that were made with another secret.
UPDATE control.access_keys
SET revoked_at = :now, version = version + 1
WHERE organization_id = :organization_id AND internal AND key_hash <> :key_hash AND revoked_at IS NULL
RETURNING *;
