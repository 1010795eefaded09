-- name: claim_step$
-- The fingerprint when this step is new; NULL when it has been done. Waits for a transaction that is doing it.
INSERT INTO control.repeats (id, step, fingerprint)
VALUES (:id, :step, :fingerprint)
ON CONFLICT DO NOTHING
RETURNING fingerprint;

-- name: finish_step!
UPDATE control.repeats SET result = :result WHERE id = :id AND step = :step;

-- name: get_step^
SELECT fingerprint, result FROM control.repeats WHERE id = :id AND step = :step;

-- name: first_step^
-- The answer (-1) if it is there, else the first transaction.
SELECT step, fingerprint, result FROM control.repeats WHERE id = :id ORDER BY step LIMIT 1;

-- name: keep_answer!
INSERT INTO control.repeats (id, step, fingerprint, result)
VALUES (:id, -1, :fingerprint, :result)
ON CONFLICT DO NOTHING;

-- name: forget!
DELETE FROM control.repeats
WHERE (id, step) IN (SELECT id, step FROM control.repeats WHERE created_at < :before LIMIT :most);
