-- name: lock_head^
-- The end of an organization's chain; made at its first entry.
INSERT INTO control.audit_heads (organization_id, seq, hash)
VALUES (:organization_id, 0, '\x')
ON CONFLICT (organization_id) DO UPDATE SET seq = audit_heads.seq
RETURNING seq, hash;

-- name: append_entry!
WITH head AS (
    UPDATE control.audit_heads SET seq = :seq, hash = :hash WHERE organization_id = :organization_id
)
INSERT INTO control.audit (
    organization_id, seq, at, actor, action, subject_type, subject_id, reason, correlation_id, address, before, after,
    hash
) VALUES (
    :organization_id, :seq, :at, :actor, :action, :subject_type, :subject_id, :reason, :correlation_id, :address,
    :before, :after, :hash
);

-- name: entries_after
-- A part of a chain, in its order.
SELECT *
FROM control.audit
WHERE organization_id = :organization_id AND seq > :seq
ORDER BY seq
LIMIT :most;
