-- The list of campaigns, in parts: a page is `page`, the filters that were asked for, an order with the position
-- after which it goes on, and what is shown beside it (stores/listing.py joins them). So the planner sees only what
-- a query has, and every order has its index (migration 0010). Keys of positions are text.

-- name: page
WITH page AS MATERIALIZED (
    SELECT c.*, ({column})::text AS sort_key
    FROM control.campaigns AS c
    WHERE c.organization_id = :organization_id AND c.deleted_at IS NULL

-- name: statuses
        AND c.status = ANY (:statuses::text[])

-- name: types
        AND c.type = ANY (:types::text[])

-- name: channels
        AND c.settings -> 'channels' ?| :channels::text[]

-- name: pattern
        AND (c.name ILIKE :pattern OR c.description ILIKE :pattern)

-- name: starts_after
        AND c.start_date > :starts_after

-- name: starts_before
        AND c.start_date < :starts_before

-- name: ends_after
        AND c.end_date > :ends_after

-- name: ends_before
        AND c.end_date < :ends_before

-- name: created_after
        AND c.created_at > :created_after

-- name: created_before
        AND c.created_at < :created_before

-- name: updated_after
        AND c.updated_at > :updated_after

-- name: after
        AND ({column}, c.id) {beyond} (:after_key::text{type}, :after_id::uuid)

-- name: order
    ORDER BY {column} {direction}, c.id {direction}
    LIMIT :page_size
)

-- name: plain
SELECT c.*, NULL AS account, NULL AS unbilled
FROM page AS c

-- name: ordered
ORDER BY {column} {direction}, c.id {direction}

-- name: metrics
SELECT c.*, to_json(a) AS account, u.unbilled
FROM page AS c
JOIN ledger.accounts AS a ON a.campaign_id = c.id
LEFT JOIN LATERAL (
    SELECT json_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = c.id
) AS u ON true

-- name: column of name
lower(c.name) COLLATE "C"

-- name: column of status
c.status::text COLLATE "C"

-- name: column of createdAt
c.created_at

-- name: column of updatedAt
c.updated_at

-- name: column of startDate
c.start_date

-- name: column of endDate
coalesce(c.end_date, 'infinity'::timestamptz)

-- name: column of budget
coalesce(c.budget_amount, 'Infinity'::numeric)
