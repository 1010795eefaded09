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

-- name: unfollowed_crossings
-- By campaign and budget version, crossings that were not announced: the transaction that lets the status follow
-- announces them. Those of deleted campaigns have nobody to tell. What is older than `since` is looked at no more, so
-- that this does not grow with all that was ever crossed.
SELECT
    x.campaign_id, c.organization_id, x.budget_version, a.gate_version, array_agg(x.threshold) AS thresholds,
    max(x.billed) AS billed, max(x.received_at) AS received_at
FROM ledger.crossings AS x
JOIN control.campaigns AS c ON c.id = x.campaign_id AND c.deleted_at IS NULL
JOIN ledger.accounts AS a ON a.campaign_id = x.campaign_id
WHERE x.crossed_at > :since AND x.crossed_at < :before AND NOT EXISTS (
    SELECT 1
    FROM control.announced_crossings AS n
    WHERE n.campaign_id = x.campaign_id AND n.budget_version = x.budget_version AND n.threshold = x.threshold
)
GROUP BY x.campaign_id, c.organization_id, x.budget_version, a.gate_version
ORDER BY min(x.crossed_at)
LIMIT :most;
