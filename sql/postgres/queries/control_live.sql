-- name: states_of
-- Counts, status and crossings of campaigns that somebody follows; one that was deleted has no row.
SELECT c.id::text AS id, c.status, c.status_reason, c.version, c.budget_version, c.start_date,
    to_json(a)::text AS account, u.unbilled::text AS unbilled, x.crossed
FROM control.campaigns AS c
JOIN ledger.accounts AS a ON a.campaign_id = c.id
LEFT JOIN LATERAL (
    SELECT json_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = c.id
) AS u ON true
LEFT JOIN LATERAL (
    SELECT array_agg(threshold ORDER BY threshold) AS crossed
    FROM ledger.crossings
    WHERE campaign_id = c.id AND budget_version = c.budget_version
) AS x ON true
WHERE c.id = ANY (:ids::uuid[]) AND c.deleted_at IS NULL;
