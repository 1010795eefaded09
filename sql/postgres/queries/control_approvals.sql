-- name: add_approval!
-- 0 when one of the campaign is pending already.
INSERT INTO control.approvals (
    id, organization_id, campaign_id, state, budget_version, for_pending, budget, currency, asked_by, asked_at,
    ask_comment
) VALUES (
    :id, :organization_id, :campaign_id, 'pending', :budget_version, :for_pending, :budget, :currency, :asked_by,
    :asked_at, :ask_comment
)
ON CONFLICT (campaign_id) WHERE state = 'pending' DO NOTHING;

-- name: get_approval^
SELECT *
FROM control.approvals
WHERE id = :id AND campaign_id = :campaign_id AND organization_id = :organization_id;

-- name: approvals_of_campaign
SELECT *
FROM control.approvals
WHERE campaign_id = :campaign_id
    AND (:states::text[] IS NULL OR state = ANY (:states::text[]))
    AND (:after::uuid IS NULL OR id < :after::uuid)
ORDER BY id DESC
LIMIT :most;

-- name: approvals_page
-- From the newest on; a filter that is NULL does not filter.
SELECT *
FROM control.approvals
WHERE organization_id = :organization_id
    AND (:states::text[] IS NULL OR state = ANY (:states::text[]))
    AND (:after::uuid IS NULL OR id < :after::uuid)
ORDER BY id DESC
LIMIT :most;

-- name: decide_approval!
UPDATE control.approvals
SET state = :state, decided_by = :decided_by, decided_at = :decided_at, decide_comment = :decide_comment
WHERE id = :id;

-- name: withdraw_approvals
UPDATE control.approvals
SET state = 'withdrawn', decided_at = :now
WHERE campaign_id = :campaign_id AND state = ANY (:states::text[])
RETURNING *;

-- name: campaigns_with_approvals
-- Of these campaigns, those of which approvals could be withdrawn.
SELECT DISTINCT campaign_id
FROM control.approvals
WHERE campaign_id = ANY (:ids::uuid[]) AND state IN ('pending', 'approved');
