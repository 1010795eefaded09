-- name: get_organization^
SELECT o.*, coalesce(l.limits, '{}') AS limits
FROM control.organizations AS o
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(currency, jsonb_build_object(
        'largestBudget', largest_budget, 'approvalThreshold', approval_threshold)) AS limits
    FROM control.organization_limits
    WHERE organization_id = o.id
) AS l ON true
WHERE o.id = :id;

-- name: lock_organization^
-- NO KEY: rows that name the organization, as every audit entry does, are written meanwhile. Whoever writes one holds
-- the end of the audit log, for which the holder of this lock may wait.
SELECT version FROM control.organizations WHERE id = :id FOR NO KEY UPDATE;

-- name: ensure_organization!
INSERT INTO control.organizations (id, name, time_zone, default_currency)
VALUES (:id, :name, :time_zone, :default_currency)
ON CONFLICT (id) DO NOTHING;

-- name: update_organization!
UPDATE control.organizations
SET name = :name, time_zone = :time_zone, default_currency = :default_currency, updated_at = :now,
    version = version + 1
WHERE id = :id;

-- name: delete_limits!
DELETE FROM control.organization_limits WHERE organization_id = :organization_id;

-- name: add_limit!
INSERT INTO control.organization_limits (organization_id, currency, largest_budget, approval_threshold)
VALUES (:organization_id, :currency, :largest_budget, :approval_threshold);

-- name: ensure_user!
INSERT INTO control.users (id, organization_id, email, name, roles)
VALUES (:id, :organization_id, :email, :name, :roles)
ON CONFLICT (id) DO NOTHING;

-- name: get_user^
SELECT * FROM control.users WHERE id = :id AND organization_id = :organization_id;
