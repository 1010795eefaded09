-- Who may use the API: people with passwords, their sessions, keys for the API itself.
ALTER TABLE control.users
    ADD COLUMN password_hash  text,                           -- argon2id; NULL: cannot log in with a password
    ADD COLUMN deactivated_at timestamptz,
    ADD COLUMN updated_at     timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN version        integer NOT NULL DEFAULT 1;
CREATE INDEX users_login ON control.users (lower(email));     -- a login need not name the organization
CREATE INDEX users_organization ON control.users (organization_id, id);

-- One login somewhere: the family of all refresh tokens that followed from it.
CREATE TABLE control.sessions (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES control.organizations (id),
    user_id         uuid NOT NULL REFERENCES control.users (id),
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    ended_at        timestamptz
);
CREATE INDEX sessions_open ON control.sessions (user_id) WHERE ended_at IS NULL;
CREATE INDEX sessions_expiry ON control.sessions (expires_at);

-- Each is used once. `successor` is what was given for it, made of the token itself, `salt` and a secret of the
-- service: who asks again because the answer was lost gets it again, and it stands nowhere.
CREATE TABLE control.refresh_tokens (
    hash       bytea PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES control.sessions (id) ON DELETE CASCADE,
    used_at    timestamptz,
    salt       bytea,
    successor  bytea
);
CREATE INDEX refresh_tokens_session ON control.refresh_tokens (session_id);
CREATE INDEX refresh_tokens_used ON control.refresh_tokens (used_at);

-- Keys for this API. The doors know nothing of them, so they are not in access_keys, whose rows are published.
CREATE TABLE control.control_keys (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES control.organizations (id),
    name            varchar(255) NOT NULL,
    key_hash        text NOT NULL UNIQUE,
    hint            text NOT NULL,
    scopes          text[] NOT NULL,
    created_by      uuid NOT NULL,                            -- an outside issuer's users have no row in users
    created_at      timestamptz NOT NULL,
    expires_at      timestamptz,
    last_used_at    timestamptz,                              -- to some minutes
    revoked_at      timestamptz
);
CREATE INDEX control_keys_organization ON control.control_keys (organization_id, id);

-- Attempts to log in, by keyed hashes of who and from where.
CREATE TABLE control.login_attempts (
    bucket      bytea PRIMARY KEY,
    attempts    integer NOT NULL,
    window_ends timestamptz NOT NULL
);
CREATE INDEX login_attempts_age ON control.login_attempts (window_ends);

CREATE INDEX audit_action ON control.audit (organization_id, action, seq);
