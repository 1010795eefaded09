-- name: create_campaign!
-- A new DRAFT.
INSERT INTO control.campaigns (
    id, organization_id, name, description, status, type, targeting_rules, start_date, end_date, currency,
    budget_amount, budget_currency, budget_version, settings, created_by, created_at, updated_by, updated_at, version
) VALUES (
    :id, :organization_id, :name, :description, :status, :type, :targeting_rules, :start_date, :end_date, :currency,
    :budget_amount, :budget_currency, :budget_version, :settings, :created_by, :created_at, :created_by, :created_at,
    :version
);

-- name: lock_campaign^
-- The campaign for a change; its account must be locked before.
SELECT *
FROM control.campaigns
WHERE id = :id AND organization_id = :organization_id AND deleted_at IS NULL
FOR UPDATE;

-- name: update_campaign!
UPDATE control.campaigns
SET name = :name, description = :description, status = :status, status_reason = :status_reason, type = :type,
    targeting_rules = :targeting_rules, start_date = :start_date, end_date = :end_date, currency = :currency,
    budget_amount = :budget_amount, budget_currency = :budget_currency, budget_version = :budget_version,
    acknowledged_threshold = :acknowledged_threshold, pending_budget = :pending_budget,
    approved_budget_version = :approved_budget_version, budget_changed_by = :budget_changed_by,
    closed_since = :closed_since, settings = :settings, updated_by = :updated_by, updated_at = :updated_at,
    deleted_at = :deleted_at, version = :version
WHERE id = :id AND version = :previous_version;

-- name: name_is_taken$
-- Whether another campaign of the organization that counts for uniqueness has the name.
SELECT EXISTS (
    SELECT 1
    FROM control.campaigns
    WHERE organization_id = :organization_id AND lower(name) = lower(:name) AND id <> :id
        AND status <> 'CANCELLED' AND deleted_at IS NULL
);

-- name: get_campaign^
SELECT c.*, to_json(a) AS account, u.unbilled
FROM control.campaigns AS c
JOIN ledger.accounts AS a ON a.campaign_id = c.id
LEFT JOIN LATERAL (
    SELECT json_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = c.id
) AS u ON true
WHERE c.id = :id AND c.organization_id = :organization_id AND c.deleted_at IS NULL;

-- name: lock_due_accounts
-- Accounts of campaigns whose end has come, among those that are due for longest. Replicas pass over what another one
-- has in hand; the campaigns are locked afterwards, because the lock order is account before campaign.
SELECT a.campaign_id, a.organization_id
FROM ledger.accounts AS a
WHERE a.campaign_id = ANY (ARRAY(
    SELECT c.id
    FROM control.campaigns AS c
    WHERE c.status IN ('ACTIVE', 'PAUSED') AND c.end_date <= :now AND c.deleted_at IS NULL
    ORDER BY c.end_date
    LIMIT 1000
))
ORDER BY a.campaign_id
LIMIT :most
FOR UPDATE SKIP LOCKED;

-- name: announce_crossing!
-- 1 when this crossing has not been announced before.
INSERT INTO control.announced_crossings (campaign_id, budget_version, threshold)
VALUES (:campaign_id, :budget_version, :threshold)
ON CONFLICT DO NOTHING;
