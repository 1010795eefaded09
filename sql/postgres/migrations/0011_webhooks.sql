-- Subscribers of an organization's domain events, and what is to be delivered to each.
CREATE TABLE control.webhooks (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES control.organizations (id),
    url             text NOT NULL,
    event_types     text[] NOT NULL DEFAULT '{}',             -- none: all of them
    description     text NOT NULL DEFAULT '',
    active          boolean NOT NULL DEFAULT true,
    active_since    timestamptz NOT NULL,                     -- what happened before is not for it
    inactive_reason text,                                     -- GONE: the subscriber has answered 410
    secret          bytea NOT NULL,                           -- sealed, as the one before it
    previous_secret bytea,
    previous_until  timestamptz,                              -- so long it signs as well
    created_by      uuid NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_by      uuid NOT NULL,
    updated_at      timestamptz NOT NULL,
    version         integer NOT NULL DEFAULT 1
);
CREATE INDEX webhooks_organization ON control.webhooks (organization_id, id);

-- One row for each event and subscriber. `next_attempt_at` is also the lease of whoever sends it now: when that
-- one is gone, another one sends it then. No foreign key: a deleted webhook's rows go with their age, in parts.
CREATE TABLE control.webhook_deliveries (
    id              uuid PRIMARY KEY,
    webhook_id      uuid NOT NULL,
    organization_id uuid NOT NULL,
    event_id        uuid NOT NULL,
    event_type      text NOT NULL,
    subject         text NOT NULL,
    payload         bytea NOT NULL,                           -- the CloudEvent, byte for byte as it is signed
    state           text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING', 'DELIVERED', 'DEAD')),
    attempts        integer NOT NULL DEFAULT 0,
    claim           uuid,                                     -- of the attempt that is being made, or was made last
    next_attempt_at timestamptz NOT NULL,
    last_attempt_at timestamptz,
    response_status integer,
    response        text,                                     -- the beginning of the answer's body
    error           text,
    milliseconds    integer,
    created_at      timestamptz NOT NULL,
    delivered_at    timestamptz,
    UNIQUE (webhook_id, event_id)                             -- an event that is read twice is delivered once
);
CREATE INDEX webhook_deliveries_due ON control.webhook_deliveries (webhook_id, next_attempt_at)
    WHERE state = 'PENDING';
CREATE INDEX webhook_deliveries_list ON control.webhook_deliveries (webhook_id, id);
CREATE INDEX webhook_deliveries_state ON control.webhook_deliveries (webhook_id, state, id);
CREATE INDEX webhook_deliveries_age ON control.webhook_deliveries (created_at);

-- How far `campaign-events` is turned into deliveries; moves in the transaction that writes them.
CREATE TABLE control.webhook_offsets (
    partition   integer PRIMARY KEY,
    next_offset bigint NOT NULL
);
