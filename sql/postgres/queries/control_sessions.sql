-- name: create_session!
INSERT INTO control.sessions (id, organization_id, user_id, created_at, expires_at)
VALUES (:id, :organization_id, :user_id, :now, :expires_at);

-- name: add_refresh_token!
INSERT INTO control.refresh_tokens (hash, session_id) VALUES (:hash, :session_id) ON CONFLICT DO NOTHING;

-- name: session_of^
SELECT s.*
FROM control.refresh_tokens AS t
JOIN control.sessions AS s ON s.id = t.session_id
WHERE t.hash = :hash;

-- name: lock_session^
-- After its user, always. Its tokens are looked at after that: of two refreshes at once, the second sees what the
-- first has done.
SELECT *
FROM control.sessions
WHERE id = :id
FOR UPDATE;

-- name: get_refresh_token^
SELECT t.used_at, t.salt, t.successor, s.used_at IS NOT NULL AS went_on
FROM control.refresh_tokens AS t
LEFT JOIN control.refresh_tokens AS s ON s.hash = t.successor
WHERE t.hash = :hash;

-- name: use_refresh_token!
UPDATE control.refresh_tokens
SET used_at = coalesce(used_at, :now), salt = :salt, successor = :successor
WHERE hash = :hash;

-- name: withdraw_refresh_token!
-- One that was given and never used: whoever comes with it is not who got the one after it.
UPDATE control.refresh_tokens SET used_at = :now WHERE hash = :hash;

-- name: end_session!
UPDATE control.sessions SET ended_at = :now WHERE id = :id AND user_id = :user_id AND ended_at IS NULL;

-- name: end_sessions!
UPDATE control.sessions
SET ended_at = :now
WHERE user_id = :user_id AND ended_at IS NULL AND (:but::uuid IS NULL OR id <> :but::uuid);

-- name: forget_sessions!
DELETE FROM control.sessions
WHERE id IN (SELECT id FROM control.sessions WHERE expires_at < :before LIMIT :most);

-- name: forget_refresh_tokens!
DELETE FROM control.refresh_tokens
WHERE hash IN (SELECT hash FROM control.refresh_tokens WHERE used_at < :before LIMIT :most);
