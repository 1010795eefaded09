-- name: newest
-- `at` follows the order of the rows but for the seconds that a transaction may take: it bounds where to look by
-- its index, and is compared exactly after that.
SELECT *
FROM control.audit
WHERE organization_id = :organization_id
    AND (:before_seq::bigint IS NULL OR seq < :before_seq::bigint)
    AND (:actor::text IS NULL OR actor = :actor::text)
    AND (:actions::text[] IS NULL OR action = ANY (:actions::text[]))
    AND (:subject::text IS NULL OR subject_id = :subject::text)
    AND (:since::timestamptz IS NULL OR (
        at >= :since::timestamptz
        AND seq > coalesce((
            SELECT seq FROM control.audit
            WHERE organization_id = :organization_id AND at < :since::timestamptz - interval '1 minute'
            ORDER BY at DESC, seq DESC LIMIT 1
        ), 0)
    ))
    AND (:until::timestamptz IS NULL OR (
        at < :until::timestamptz
        AND seq < coalesce((
            SELECT seq FROM control.audit
            WHERE organization_id = :organization_id AND at >= :until::timestamptz + interval '1 minute'
            ORDER BY at, seq LIMIT 1
        ), 9223372036854775807)
    ))
ORDER BY seq DESC
LIMIT :most;

-- name: oldest
-- The same from the beginning, up to a row: for an export.
SELECT *
FROM control.audit
WHERE organization_id = :organization_id
    AND seq > :after_seq AND seq <= :up_to
    AND (:actor::text IS NULL OR actor = :actor::text)
    AND (:actions::text[] IS NULL OR action = ANY (:actions::text[]))
    AND (:subject::text IS NULL OR subject_id = :subject::text)
    AND (:since::timestamptz IS NULL OR (
        at >= :since::timestamptz
        AND seq > coalesce((
            SELECT seq FROM control.audit
            WHERE organization_id = :organization_id AND at < :since::timestamptz - interval '1 minute'
            ORDER BY at DESC, seq DESC LIMIT 1
        ), 0)
    ))
    AND (:until::timestamptz IS NULL OR (
        at < :until::timestamptz
        AND seq < coalesce((
            SELECT seq FROM control.audit
            WHERE organization_id = :organization_id AND at >= :until::timestamptz + interval '1 minute'
            ORDER BY at, seq LIMIT 1
        ), 9223372036854775807)
    ))
ORDER BY seq
LIMIT :most;

-- name: head_of$
SELECT seq FROM control.audit_heads WHERE organization_id = :organization_id;

-- name: organizations
SELECT id FROM control.organizations ORDER BY id;

-- name: end_of_chain^
-- The end as it is kept beside the rows, NULL before the first one.
SELECT o.name, h.seq, h.hash
FROM control.organizations AS o
LEFT JOIN control.audit_heads AS h ON h.organization_id = o.id
WHERE o.id = :organization_id;
