-- name: export_page
-- Campaigns of an organization after an id, in order of ids, with their accounts. A filter that is NULL does not
-- filter.
WITH page AS (
    SELECT *
    FROM control.campaigns AS c
    WHERE c.organization_id = :organization_id AND c.deleted_at IS NULL
        AND (:after_id::uuid IS NULL OR c.id > :after_id::uuid)
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
    ORDER BY c.organization_id, c.id
    LIMIT :page_size
)
SELECT page.*, to_jsonb(a) AS account, u.unbilled
FROM page
JOIN ledger.accounts AS a ON a.campaign_id = page.id
LEFT JOIN LATERAL (
    SELECT jsonb_object_agg(reason, events) AS unbilled FROM ledger.unbilled WHERE campaign_id = page.id
) AS u ON true
ORDER BY page.id;
