-- name: lock_users$
-- Users of an organization are changed one at a time: there is always an admin left.
SELECT id FROM control.organizations WHERE id = :organization_id FOR NO KEY UPDATE;

-- name: create_user!
INSERT INTO control.users (id, organization_id, email, name, roles, password_hash, created_at, updated_at)
VALUES (:id, :organization_id, :email, :name, :roles, :password_hash, :now, :now);

-- name: email_is_taken$
SELECT EXISTS (
    SELECT 1 FROM control.users WHERE organization_id = :organization_id AND lower(email) = lower(:email)
);

-- name: get_user^
SELECT * FROM control.users WHERE id = :id AND organization_id = :organization_id;

-- name: hold_user^
-- The user stays as it is until the transaction ends.
SELECT * FROM control.users WHERE id = :id AND organization_id = :organization_id FOR SHARE;

-- name: update_user!
UPDATE control.users
SET name = :name, roles = :roles, deactivated_at = :deactivated_at, password_hash = :password_hash,
    updated_at = :now, version = version + 1
WHERE id = :id AND organization_id = :organization_id;

-- name: rehash_password!
UPDATE control.users SET password_hash = :password_hash WHERE id = :id AND organization_id = :organization_id;

-- name: other_admins$
SELECT count(*)
FROM control.users
WHERE organization_id = :organization_id AND id <> :id AND deactivated_at IS NULL AND 'admin' = ANY (roles);

-- name: list_users
SELECT *
FROM control.users
WHERE organization_id = :organization_id AND (:after::uuid IS NULL OR id > :after::uuid)
ORDER BY id
LIMIT :most;

-- name: users_of_email
-- Two are as good as many: then the organization must be named.
SELECT *
FROM control.users
WHERE lower(email) = lower(:email) AND (:organization_id::uuid IS NULL OR organization_id = :organization_id::uuid)
LIMIT 2;
