-- Approvals of budgets, jobs that import campaigns, and what exports read.

-- Which budget version of a DRAFT somebody has approved, and who changed the budget last (NULL: who created it):
-- neither that person nor who asked may approve.
ALTER TABLE control.campaigns ADD COLUMN approved_budget_version integer;
ALTER TABLE control.campaigns ADD COLUMN budget_changed_by uuid;

-- One row for each time that somebody asked. Locked after its campaign; a change of the budget withdraws it in the
-- transaction of the change, so what is pending here is what the campaign waits for.
CREATE TABLE control.approvals (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES control.organizations (id),
    campaign_id     uuid NOT NULL REFERENCES control.campaigns (id),
    state           text NOT NULL CHECK (state IN ('pending', 'approved', 'rejected', 'withdrawn')),
    budget_version  integer NOT NULL,                         -- the one that was current when it was asked for
    for_pending     boolean NOT NULL,                         -- of a pendingBudget; else of a DRAFT's own budget
    budget          bigint,                                   -- effective, in micros; NULL: none at all
    currency        varchar(3) NOT NULL,
    asked_by        uuid NOT NULL,
    asked_at        timestamptz NOT NULL,
    ask_comment     text,
    decided_by      uuid,
    decided_at      timestamptz,
    decide_comment  text
);
CREATE UNIQUE INDEX approvals_pending ON control.approvals (campaign_id) WHERE state = 'pending';
CREATE INDEX approvals_campaign ON control.approvals (campaign_id, id);
CREATE INDEX approvals_organization ON control.approvals (organization_id, state, id);

-- A job takes a file that was sent, row by row. Whoever holds its lease works on it; `epoch` rises with every claim
-- and fences whoever had it before. `next_row` moves in the transactions that apply the rows before it.
CREATE TABLE control.jobs (
    id               uuid PRIMARY KEY,
    organization_id  uuid NOT NULL REFERENCES control.organizations (id),
    state            text NOT NULL
        CHECK (state IN ('receiving', 'queued', 'running', 'succeeded', 'failed', 'cancelled')),
    format           text NOT NULL CHECK (format IN ('csv', 'ndjson', 'json')),
    mode             text NOT NULL CHECK (mode IN ('create', 'upsert')),
    dry_run          boolean NOT NULL,
    created_by       uuid NOT NULL,
    actor            text NOT NULL,
    correlation_id   text,
    traceparent      text,
    address          text,
    created_at       timestamptz NOT NULL,
    started_at       timestamptz,
    finished_at      timestamptz,
    size             bigint NOT NULL DEFAULT 0,               -- bytes, decompressed
    rows_total       integer,                                 -- NULL until the file has been read once
    next_row         integer NOT NULL DEFAULT 0,
    created          integer NOT NULL DEFAULT 0,
    updated          integer NOT NULL DEFAULT 0,
    unchanged        integer NOT NULL DEFAULT 0,
    failed           integer NOT NULL DEFAULT 0,
    failure          text,                                    -- why the whole of it failed
    epoch            integer NOT NULL DEFAULT 0,
    leased_until     timestamptz,
    cancel_requested boolean NOT NULL DEFAULT false
);
CREATE INDEX jobs_to_do ON control.jobs (created_at) WHERE state IN ('receiving', 'queued', 'running');
CREATE INDEX jobs_finished ON control.jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_organization ON control.jobs (organization_id, state);

-- The file of a job in pieces; gone when the job is done.
CREATE TABLE control.job_pieces (
    job_id  uuid NOT NULL REFERENCES control.jobs (id) ON DELETE CASCADE,
    number  integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (job_id, number)
);

-- What is wrong with a row of a file: all of its errors, as [{"pointer", "detail"}].
CREATE TABLE control.job_errors (
    job_id uuid NOT NULL REFERENCES control.jobs (id) ON DELETE CASCADE,
    row    integer NOT NULL,
    line   integer NOT NULL,
    errors json NOT NULL,
    PRIMARY KEY (job_id, row)
);

-- Pages of an export, in order of ids.
CREATE INDEX campaigns_by_id ON control.campaigns (organization_id, id) WHERE deleted_at IS NULL;
