-- Campaigns and what surrounds them. Owned by the control API.
-- Lock order everywhere: the ledger's account, then the campaign.
CREATE SCHEMA control;

CREATE TABLE control.organizations (
    id               uuid PRIMARY KEY,
    name             varchar(255) NOT NULL,
    time_zone        text NOT NULL DEFAULT 'UTC',             -- IANA; the days of reports
    default_currency varchar(3) NOT NULL DEFAULT 'EUR',       -- of a campaign that names no money at all
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    version          integer NOT NULL DEFAULT 1
);

CREATE TABLE control.organization_limits (
    organization_id    uuid NOT NULL REFERENCES control.organizations (id),
    currency           varchar(3) NOT NULL,
    largest_budget     numeric(18, 3) CHECK (largest_budget > 0),
    approval_threshold numeric(18, 3) CHECK (approval_threshold >= 0),
    PRIMARY KEY (organization_id, currency)
);

CREATE TABLE control.users (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES control.organizations (id),
    email           varchar(320) NOT NULL,
    name            varchar(255) NOT NULL DEFAULT '',
    roles           text[] NOT NULL DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX users_email ON control.users (organization_id, lower(email));

-- Only the hash of a key is kept; its clear text is shown once, when it is made.
CREATE TABLE control.access_keys (
    id                uuid PRIMARY KEY,
    organization_id   uuid NOT NULL REFERENCES control.organizations (id),
    name              varchar(255) NOT NULL,
    key_hash          text NOT NULL UNIQUE,
    hint              text NOT NULL,                          -- its first characters, to tell keys apart
    kind              text NOT NULL CHECK (kind IN ('publishable', 'server')),
    scopes            text[] NOT NULL,
    allowed_origins   text[] NOT NULL DEFAULT '{}',
    events_per_second integer CHECK (events_per_second > 0),
    burst             integer CHECK (burst > 0),
    created_by        uuid NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz,
    revoked_at        timestamptz,
    version           integer NOT NULL DEFAULT 1
);
CREATE INDEX access_keys_organization ON control.access_keys (organization_id, id);

-- The specification's table. What differs from it, and why:
-- * ids are UUIDv7 made by the service (the door tells a campaign on its way from an unknown one by its time);
-- * names are unique within an organization, and only among campaigns that are neither cancelled nor deleted;
-- * amounts have three decimals, because currencies such as KWD do;
-- * a deleted campaign stays as a row, so that its last snapshot ("gone") can be published again.
CREATE TABLE control.campaigns (
    id                     uuid PRIMARY KEY,
    organization_id        uuid NOT NULL REFERENCES control.organizations (id),
    name                   varchar(255) NOT NULL,
    description            text NOT NULL DEFAULT '',
    status                 varchar(50) NOT NULL DEFAULT 'DRAFT',
    status_reason          varchar(50),
    type                   varchar(50) NOT NULL,
    targeting_rules        jsonb NOT NULL DEFAULT '[]',
    start_date             timestamptz NOT NULL,
    end_date               timestamptz,
    currency               varchar(3) NOT NULL,               -- one a campaign, fixed once it has left DRAFT
    budget_amount          numeric(18, 3),
    budget_currency        varchar(3),
    budget_version         integer NOT NULL DEFAULT 1,        -- of the effective budget and maxImpressions
    acknowledged_threshold smallint NOT NULL DEFAULT 0,       -- 0 or 90, of this budget version
    pending_budget         jsonb,                             -- {"budget", "budgetLimit"} that wait for approval
    closed_since           timestamptz,                       -- when it last stopped running
    settings               jsonb NOT NULL DEFAULT '{}',
    created_by             uuid NOT NULL,
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_by             uuid,
    updated_at             timestamptz NOT NULL DEFAULT now(),
    deleted_at             timestamptz,
    version                integer NOT NULL DEFAULT 1,

    CONSTRAINT campaigns_status_check CHECK (status IN ('DRAFT', 'ACTIVE', 'PAUSED', 'COMPLETED', 'CANCELLED')),
    CONSTRAINT campaigns_status_reason_check
        CHECK (status_reason IN ('BUDGET_90', 'BUDGET_100', 'MAX_IMPRESSIONS', 'END_DATE')),
    CONSTRAINT campaigns_type_check
        CHECK (type IN ('PROMOTION', 'LOYALTY', 'COUPON', 'SEGMENTATION', 'RETARGETING')),
    CONSTRAINT campaigns_dates_check CHECK (end_date IS NULL OR end_date > start_date),
    CONSTRAINT campaigns_budget_check CHECK (budget_amount IS NULL OR budget_amount > 0),
    CONSTRAINT campaigns_budget_currency_check
        CHECK ((budget_amount IS NULL) = (budget_currency IS NULL) AND budget_currency = currency),
    CONSTRAINT campaigns_acknowledged_check CHECK (acknowledged_threshold IN (0, 90))
);

CREATE UNIQUE INDEX campaigns_name_unique ON control.campaigns (organization_id, lower(name))
    WHERE status <> 'CANCELLED' AND deleted_at IS NULL;
CREATE INDEX idx_campaigns_status ON control.campaigns (organization_id, status) WHERE deleted_at IS NULL;
CREATE INDEX idx_campaigns_type ON control.campaigns (organization_id, type) WHERE deleted_at IS NULL;
CREATE INDEX idx_campaigns_dates ON control.campaigns (organization_id, start_date, end_date) WHERE deleted_at IS NULL;
CREATE INDEX idx_campaigns_created ON control.campaigns (organization_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX idx_campaigns_updated ON control.campaigns (organization_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX idx_campaigns_created_by ON control.campaigns (organization_id, created_by);
CREATE INDEX idx_campaigns_due ON control.campaigns (end_date) WHERE status IN ('ACTIVE', 'PAUSED');

-- The specification's campaign_metrics. The ledger is the only truth of counts and money, so this is a view of
-- it: a table of its own would have to be kept equal and could disagree. `id` is the campaign's, since a
-- campaign has one row of metrics; amounts have the ledger's six decimals instead of two, to lose nothing.
CREATE VIEW control.campaign_metrics AS
SELECT
    c.id,
    c.id AS campaign_id,
    a.impressions,
    a.clicks,
    a.conversions,
    a.revenue::numeric / 1000000 AS revenue_amount,
    a.currency AS revenue_currency,
    a.billed::numeric / 1000000 AS cost_amount,
    a.currency AS cost_currency,
    a.last_received_at AS last_updated
FROM control.campaigns AS c
JOIN ledger.accounts AS a ON a.campaign_id = c.id
WHERE c.deleted_at IS NULL;

-- Crossings whose domain event is in the outbox: a gate is read at least once, its event is published once.
CREATE TABLE control.announced_crossings (
    campaign_id    uuid NOT NULL,
    budget_version integer NOT NULL,
    threshold      text NOT NULL,
    PRIMARY KEY (campaign_id, budget_version, threshold)
);

-- Records that must reach Kafka because a transaction committed; drained in order of id.
CREATE TABLE control.outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL,
    key        bytea,
    value      bytea NOT NULL,
    partition  integer,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Whichever replica drains the outbox hears of a commit at once.
CREATE FUNCTION control.outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('control_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_notify AFTER INSERT ON control.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION control.outbox_notify();
