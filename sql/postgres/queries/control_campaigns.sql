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
SELECT c.*, to_jsonb(a) AS account, u.unbilled
FROM control.campaigns AS c
JOIN ledger.accounts AS a ON a.campaign_id = c.id
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = c.id
) AS u ON true
WHERE c.id = :id AND c.organization_id = :organization_id AND c.deleted_at IS NULL;

-- name: list_campaigns_ascending
-- A page in order of `sort`, after the position of the last page. Every sort key is compared as text in the
-- order of its bytes, so that one cursor serves all of them. A filter that is NULL does not filter.
WITH page AS (
    SELECT c.*, k.sort_key
    FROM control.campaigns AS c
    CROSS JOIN LATERAL (
        SELECT CASE :sort::text
            WHEN 'name' THEN lower(c.name)
            WHEN 'status' THEN c.status
            WHEN 'createdAt' THEN to_char(c.created_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
            WHEN 'updatedAt' THEN to_char(c.updated_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
            WHEN 'startDate' THEN to_char(c.start_date AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
            WHEN 'endDate' THEN coalesce(to_char(c.end_date AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'), '~')
            WHEN 'budget' THEN coalesce(to_char(c.budget_amount, 'FM000000000000000.000'), '~')
        END COLLATE "C" AS sort_key
    ) AS k
    WHERE c.organization_id = :organization_id AND c.deleted_at IS NULL
        AND (:statuses::text[] IS NULL OR c.status = ANY (:statuses::text[]))
        AND (:types::text[] IS NULL OR c.type = ANY (:types::text[]))
        AND (:channels::text[] IS NULL OR c.settings -> 'channels' ?| :channels::text[])
        AND (:pattern::text IS NULL OR c.name ILIKE :pattern::text OR c.description ILIKE :pattern::text)
        AND (:starts_after::timestamptz IS NULL OR c.start_date > :starts_after::timestamptz)
        AND (:starts_before::timestamptz IS NULL OR c.start_date < :starts_before::timestamptz)
        AND (:ends_after::timestamptz IS NULL OR c.end_date > :ends_after::timestamptz)
        AND (:ends_before::timestamptz IS NULL OR c.end_date < :ends_before::timestamptz)
        AND (:created_after::timestamptz IS NULL OR c.created_at > :created_after::timestamptz)
        AND (:created_before::timestamptz IS NULL OR c.created_at < :created_before::timestamptz)
        AND (:updated_after::timestamptz IS NULL OR c.updated_at > :updated_after::timestamptz)
        AND (:after_key::text IS NULL OR (k.sort_key, c.id) > (:after_key::text COLLATE "C", :after_id::uuid))
    ORDER BY k.sort_key, c.id
    LIMIT :page_size
)
SELECT page.*, to_jsonb(a) AS account, u.unbilled
FROM page
JOIN ledger.accounts AS a ON a.campaign_id = page.id
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = page.id
) AS u ON :with_unbilled::boolean
ORDER BY page.sort_key, page.id;

-- name: list_campaigns_descending
-- The same in falling order.
WITH page AS (
    SELECT c.*, k.sort_key
    FROM control.campaigns AS c
    CROSS JOIN LATERAL (
        SELECT CASE :sort::text
            WHEN 'name' THEN lower(c.name)
            WHEN 'status' THEN c.status
            WHEN 'createdAt' THEN to_char(c.created_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
            WHEN 'updatedAt' THEN to_char(c.updated_at AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
            WHEN 'startDate' THEN to_char(c.start_date AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS')
            WHEN 'endDate' THEN coalesce(to_char(c.end_date AT TIME ZONE 'UTC', 'YYYYMMDDHH24MISSUS'), '~')
            WHEN 'budget' THEN coalesce(to_char(c.budget_amount, 'FM000000000000000.000'), '~')
        END COLLATE "C" AS sort_key
    ) AS k
    WHERE c.organization_id = :organization_id AND c.deleted_at IS NULL
        AND (:statuses::text[] IS NULL OR c.status = ANY (:statuses::text[]))
        AND (:types::text[] IS NULL OR c.type = ANY (:types::text[]))
        AND (:channels::text[] IS NULL OR c.settings -> 'channels' ?| :channels::text[])
        AND (:pattern::text IS NULL OR c.name ILIKE :pattern::text OR c.description ILIKE :pattern::text)
        AND (:starts_after::timestamptz IS NULL OR c.start_date > :starts_after::timestamptz)
        AND (:starts_before::timestamptz IS NULL OR c.start_date < :starts_before::timestamptz)
        AND (:ends_after::timestamptz IS NULL OR c.end_date > :ends_after::timestamptz)
        AND (:ends_before::timestamptz IS NULL OR c.end_date < :ends_before::timestamptz)
        AND (:created_after::timestamptz IS NULL OR c.created_at > :created_after::timestamptz)
        AND (:created_before::timestamptz IS NULL OR c.created_at < :created_before::timestamptz)
        AND (:updated_after::timestamptz IS NULL OR c.updated_at > :updated_after::timestamptz)
        AND (:after_key::text IS NULL OR (k.sort_key, c.id) < (:after_key::text COLLATE "C", :after_id::uuid))
    ORDER BY k.sort_key DESC, c.id DESC
    LIMIT :page_size
)
SELECT page.*, to_jsonb(a) AS account, u.unbilled
FROM page
JOIN ledger.accounts AS a ON a.campaign_id = page.id
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = page.id
) AS u ON :with_unbilled::boolean
ORDER BY page.sort_key DESC, page.id DESC;

-- name: lock_due_accounts
-- Accounts of campaigns whose end has come. Replicas pass over what another one has in hand; the campaigns
-- are locked afterwards, because the lock order is account before campaign.
SELECT a.campaign_id, a.organization_id
FROM ledger.accounts AS a
JOIN control.campaigns AS c ON c.id = a.campaign_id
WHERE c.status IN ('ACTIVE', 'PAUSED') AND c.end_date <= :now AND c.deleted_at IS NULL
ORDER BY a.campaign_id
LIMIT :most
FOR UPDATE OF a SKIP LOCKED;

-- name: announce_crossing!
-- 1 when this crossing has not been announced before.
INSERT INTO control.announced_crossings (campaign_id, budget_version, threshold)
VALUES (:campaign_id, :budget_version, :threshold)
ON CONFLICT DO NOTHING;
