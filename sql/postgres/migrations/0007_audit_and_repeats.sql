-- What was changed by whom. Rows of an organization are a chain: each row's hash covers the one before it, so
-- that a row which was changed, removed or put elsewhere is found (`flightline audit verify`).
-- `before` and `after` are json, not jsonb: the hash covers their text.
CREATE TABLE control.audit (
    organization_id uuid NOT NULL REFERENCES control.organizations (id),
    seq             bigint NOT NULL,
    at              timestamptz NOT NULL,
    actor           text NOT NULL,                            -- a user's id, `key:ID`, or a part of the system
    action          text NOT NULL,
    subject_type    text NOT NULL,
    subject_id      text NOT NULL,
    reason          text,
    correlation_id  text,
    address         text,                                     -- a keyed hash of the caller's address
    before          json,
    after           json,
    hash            bytea NOT NULL,
    PRIMARY KEY (organization_id, seq)
);
CREATE INDEX audit_subject ON control.audit (organization_id, subject_id, seq);
CREATE INDEX audit_actor ON control.audit (organization_id, actor, seq);
CREATE INDEX audit_at ON control.audit (organization_id, at, seq);

-- The end of each chain. Locked last of all in a transaction, so that it is held for as short as can be.
CREATE TABLE control.audit_heads (
    organization_id uuid PRIMARY KEY REFERENCES control.organizations (id),
    seq             bigint NOT NULL,
    hash            bytea NOT NULL
);

-- What a request with an Idempotency-Key has done: the result of each of its transactions (step 0, 1, …),
-- committed with it, and its answer (step -1). Sealed with the key, which is not kept.
CREATE TABLE control.repeats (
    id          bytea NOT NULL,
    step        integer NOT NULL,
    fingerprint bytea NOT NULL,
    result      bytea NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, step)
);
CREATE INDEX repeats_age ON control.repeats (created_at);
