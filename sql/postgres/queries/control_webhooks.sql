-- name: create_webhook!
INSERT INTO control.webhooks (
    id, organization_id, url, event_types, description, active, active_since, secret, created_by, created_at, updated_by,
    updated_at
) VALUES (
    :id, :organization_id, :url, :event_types, :description, :active, :created_at, :secret, :created_by, :created_at,
    :created_by, :created_at
);

-- name: list_webhooks
SELECT * FROM control.webhooks WHERE organization_id = :organization_id ORDER BY id;

-- name: get_webhook^
SELECT * FROM control.webhooks WHERE id = :id AND organization_id = :organization_id;

-- name: lock_webhook^
SELECT * FROM control.webhooks WHERE id = :id AND organization_id = :organization_id FOR UPDATE;

-- name: update_webhook!
UPDATE control.webhooks
SET
    url = :url,
    event_types = :event_types,
    description = :description,
    active = :active,
    active_since = :active_since,
    inactive_reason = :inactive_reason,
    secret = :secret,
    previous_secret = :previous_secret,
    previous_until = :previous_until,
    updated_by = :updated_by,
    updated_at = :updated_at,
    version = :version
WHERE id = :id;

-- name: delete_webhook!
DELETE FROM control.webhooks WHERE id = :id;

-- name: subscribers
-- The active webhooks of these organizations, held as they are until deliveries to them are written: one that is
-- deactivated afterwards finds those among its pending ones.
SELECT *
FROM control.webhooks
WHERE active AND organization_id = ANY (:organizations::uuid[])
ORDER BY id
FOR SHARE;
