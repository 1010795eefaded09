-- Many campaigns at once. The lock order is that of one campaign: accounts (by id), then campaigns (by id).

-- name: lock_accounts
SELECT *
FROM ledger.accounts
WHERE campaign_id = ANY (:ids::uuid[]) AND organization_id = :organization_id
ORDER BY campaign_id
FOR UPDATE;

-- name: lock_campaigns
SELECT *
FROM control.campaigns
WHERE id = ANY (:ids::uuid[]) AND organization_id = :organization_id AND deleted_at IS NULL
ORDER BY id
FOR UPDATE;

-- name: crossed_thresholds
-- Of each campaign's current budget version.
SELECT x.campaign_id, x.threshold
FROM control.campaigns AS c
JOIN ledger.crossings AS x ON x.campaign_id = c.id AND x.budget_version = c.budget_version
WHERE c.id = ANY (:ids::uuid[]);

-- name: unbilled_by_reason
SELECT campaign_id, reason, events FROM ledger.unbilled WHERE campaign_id = ANY (:ids::uuid[]);

-- name: create_accounts!
INSERT INTO ledger.accounts (campaign_id, organization_id, currency, budget, budget_version, max_impressions)
SELECT campaign_id, organization_id, currency, budget, budget_version, max_impressions
FROM jsonb_populate_recordset(NULL::ledger.accounts, :rows::jsonb);

-- name: change_budgets!
UPDATE ledger.accounts AS a
SET currency = r.currency, budget = r.budget, budget_version = r.budget_version, max_impressions = r.max_impressions
FROM jsonb_populate_recordset(NULL::ledger.accounts, :rows::jsonb) AS r
WHERE a.campaign_id = r.campaign_id;

-- name: create_campaigns!
INSERT INTO control.campaigns (
    id, organization_id, name, description, status, type, targeting_rules, start_date, end_date, currency,
    budget_amount, budget_currency, budget_version, settings, created_by, created_at, updated_by, updated_at, version
)
SELECT
    id, organization_id, name, description, status, type, targeting_rules, start_date, end_date, currency,
    budget_amount, budget_currency, budget_version, settings, created_by, created_at, created_by, created_at, version
FROM jsonb_populate_recordset(NULL::control.campaigns, :rows::jsonb);

-- name: update_campaigns!
-- Each by one version.
UPDATE control.campaigns AS c
SET name = r.name, description = r.description, status = r.status, status_reason = r.status_reason, type = r.type,
    targeting_rules = r.targeting_rules, start_date = r.start_date, end_date = r.end_date, currency = r.currency,
    budget_amount = r.budget_amount, budget_currency = r.budget_currency, budget_version = r.budget_version,
    acknowledged_threshold = r.acknowledged_threshold, pending_budget = r.pending_budget,
    approved_budget_version = r.approved_budget_version, budget_changed_by = r.budget_changed_by,
    closed_since = r.closed_since, settings = r.settings, updated_by = r.updated_by, updated_at = r.updated_at,
    deleted_at = r.deleted_at, version = r.version
FROM jsonb_populate_recordset(NULL::control.campaigns, :rows::jsonb) AS r
WHERE c.id = r.id AND c.version = r.version - 1;

-- name: add_to_outbox
INSERT INTO control.outbox (topic, key, value)
SELECT topic, key, value
FROM unnest(:topics::text[], :keys::bytea[], :values::bytea[]) WITH ORDINALITY AS o (topic, key, value, position)
ORDER BY position
RETURNING id;

-- name: append_entries!
-- Entries of one organization, with the last one's place and hash.
WITH head AS (
    UPDATE control.audit_heads SET seq = :seq, hash = :hash WHERE organization_id = :organization_id
)
INSERT INTO control.audit (
    organization_id, seq, at, actor, action, subject_type, subject_id, reason, correlation_id, address, before, after,
    hash
)
SELECT
    :organization_id, e.seq, e.at, e.actor, e.action, e.subject_type, e.subject_id, e.reason, e.correlation_id,
    e.address, e.before::json, e.after::json, e.hash
FROM unnest(
    :seqs::bigint[], :ats::timestamptz[], :actors::text[], :actions::text[], :subject_types::text[],
    :subject_ids::text[], :reasons::text[], :correlation_ids::text[], :addresses::text[], :befores::text[],
    :afters::text[], :hashes::bytea[]
) AS e (
    seq, at, actor, action, subject_type, subject_id, reason, correlation_id, address, before, after, hash
);
