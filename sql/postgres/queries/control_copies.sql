-- name: get_source^
SELECT * FROM control.campaigns WHERE id = :id AND organization_id = :organization_id AND deleted_at IS NULL;

-- name: taken_names
-- Of these names, those that a campaign has which counts for uniqueness.
SELECT n.name
FROM unnest(:names::text[]) AS n (name)
WHERE EXISTS (
    SELECT 1
    FROM control.campaigns AS c
    WHERE c.organization_id = :organization_id AND lower(c.name) = lower(n.name)
        AND c.status <> 'CANCELLED' AND c.deleted_at IS NULL
);

-- name: create_if_free!
-- As create_campaign; 0 when the name is taken. Waits for a transaction that is taking it.
INSERT INTO control.campaigns (
    id, organization_id, name, description, status, type, targeting_rules, start_date, end_date, currency,
    budget_amount, budget_currency, budget_version, settings, created_by, created_at, updated_by, updated_at, version
) VALUES (
    :id, :organization_id, :name, :description, :status, :type, :targeting_rules, :start_date, :end_date, :currency,
    :budget_amount, :budget_currency, :budget_version, :settings, :created_by, :created_at, :created_by, :created_at,
    :version
)
ON CONFLICT (organization_id, lower(name)) WHERE status <> 'CANCELLED' AND deleted_at IS NULL DO NOTHING;
