-- What the control API does in the ledger: it makes accounts and changes budgets. Counts and money are the
-- aggregator's.

-- name: create_account!
INSERT INTO ledger.accounts (campaign_id, organization_id, currency, budget, budget_version, max_impressions)
VALUES (:campaign_id, :organization_id, :currency, :budget, :budget_version, :max_impressions);

-- name: lock_account^
-- The account for a change of its campaign: first in the lock order.
SELECT *
FROM ledger.accounts
WHERE campaign_id = :campaign_id AND organization_id = :organization_id
FOR UPDATE;

-- name: crossed_thresholds
SELECT threshold
FROM ledger.crossings
WHERE campaign_id = :campaign_id AND budget_version = :budget_version;

-- name: unbilled_by_reason
SELECT reason, events FROM ledger.unbilled WHERE campaign_id = :campaign_id;

-- name: change_budget!
UPDATE ledger.accounts
SET currency = :currency, budget = :budget, budget_version = :budget_version, max_impressions = :max_impressions
WHERE campaign_id = :campaign_id;

-- name: record_crossing!
-- A crossing that no event caused, but a budget that was lowered to what is billed already.
INSERT INTO ledger.crossings (
    campaign_id, budget_version, threshold, billed, received_at, incarnation, partition, log_offset, event_index
) VALUES (:campaign_id, :budget_version, :threshold, :billed, :at, -1, -1, -1, -1)
ON CONFLICT DO NOTHING;
