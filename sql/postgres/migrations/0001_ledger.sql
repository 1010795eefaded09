-- The ledger: offsets, money and what is stored. Owned by the aggregator; the control API creates accounts
-- and changes their budgets. No foreign key leads from here to campaigns: a campaign can be deleted while its
-- events are in flight, and its account stays.
-- Lock order everywhere: partition, accounts (by id), campaign.
CREATE SCHEMA ledger;

-- One row a campaign: what it may spend and what it has. Money is integer micros (10^-6 of the currency's unit).
CREATE TABLE ledger.accounts (
    campaign_id          uuid PRIMARY KEY,
    organization_id      uuid NOT NULL,
    currency             text NOT NULL,
    budget               bigint CHECK (budget >= 0),          -- effective budget; NULL: none
    budget_version       integer NOT NULL DEFAULT 1,
    max_impressions      bigint CHECK (max_impressions >= 0),
    impressions          bigint NOT NULL DEFAULT 0,           -- counts include unbilled events, never bots
    clicks               bigint NOT NULL DEFAULT 0,
    conversions          bigint NOT NULL DEFAULT 0,
    bounces              bigint NOT NULL DEFAULT 0,
    unsubscribes         bigint NOT NULL DEFAULT 0,
    billable_impressions bigint NOT NULL DEFAULT 0,           -- never above max_impressions
    billed               bigint NOT NULL DEFAULT 0 CHECK (billed >= 0),
    overdelivery         bigint NOT NULL DEFAULT 0 CHECK (overdelivery >= 0),
    revenue              bigint NOT NULL DEFAULT 0,
    unverified_revenue   bigint NOT NULL DEFAULT 0,           -- the part of revenue that browsers reported
    invalid_impressions  bigint NOT NULL DEFAULT 0,           -- bots
    invalid_clicks       bigint NOT NULL DEFAULT 0,
    invalid_conversions  bigint NOT NULL DEFAULT 0,
    duplicates           bigint NOT NULL DEFAULT 0,
    flat_billed          boolean NOT NULL DEFAULT false,      -- a FLAT price is billed once
    gate_version         integer NOT NULL DEFAULT 0,          -- rises with every crossing
    last_received_at     timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    -- The promise of the product, held by the database itself.
    CONSTRAINT accounts_billed_within_budget CHECK (budget IS NULL OR billed <= budget),
    CONSTRAINT accounts_impressions_within_limit
        CHECK (max_impressions IS NULL OR billable_impressions <= max_impressions)
) WITH (fillfactor = 50);                                     -- updated ten times a second: keep updates HOT

CREATE INDEX accounts_organization ON ledger.accounts (organization_id, campaign_id);

CREATE TABLE ledger.unbilled (
    campaign_id uuid NOT NULL,
    reason      text NOT NULL,
    events      bigint NOT NULL,
    PRIMARY KEY (campaign_id, reason)
) WITH (fillfactor = 50);

CREATE TABLE ledger.crossings (
    campaign_id    uuid NOT NULL,
    budget_version integer NOT NULL,
    threshold      text NOT NULL CHECK (threshold IN ('90', '100', 'MAX_IMPRESSIONS')),
    billed         bigint NOT NULL,
    received_at    timestamptz NOT NULL,                      -- of the event that caused it
    incarnation    integer NOT NULL,                          -- and its coordinates; -1 when no event did, but a
    partition      integer NOT NULL,                          -- budget that was lowered to what is billed already
    log_offset     bigint NOT NULL,
    event_index    integer NOT NULL,
    crossed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (campaign_id, budget_version, threshold)
);

-- One row a partition of tracking-events: how far it is billed, and by whom.
CREATE TABLE ledger.partitions (
    partition        integer PRIMARY KEY,
    topic_id         text NOT NULL,                           -- Kafka's id of the topic: another one is another log
    incarnation      integer NOT NULL DEFAULT 0,
    epoch            bigint NOT NULL DEFAULT 0,               -- rises with every change of owner
    owner            text NOT NULL,
    next_offset      bigint NOT NULL DEFAULT 0,               -- everything below is billed
    blocked_offset   bigint NOT NULL DEFAULT 0,               -- everything below stands in a block
    next_block       bigint NOT NULL DEFAULT 0,
    last_record_hash bytea,                                   -- of the last billed record
    claimed_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- What was billed: with the log, all that a row of ClickHouse carries follows from this record alone.
CREATE TABLE ledger.batches (
    partition    integer NOT NULL,
    incarnation  integer NOT NULL,
    first_offset bigint NOT NULL,
    next_offset  bigint NOT NULL,
    epoch        bigint NOT NULL,
    event_rows   integer NOT NULL,
    billed       bigint NOT NULL,
    duplicates   bigint[] NOT NULL,                           -- positions: log_offset << 10 | event_index
    dead_letters bigint[] NOT NULL,                           -- positions; index 1023 is the whole record
    openings     jsonb NOT NULL,                              -- of each campaign that was clipped or flat
    billed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (partition, incarnation, first_offset, billed_at)
) PARTITION BY RANGE (billed_at);
CREATE TABLE ledger.batches_default PARTITION OF ledger.batches DEFAULT;

-- What becomes one insert of one ClickHouse block.
CREATE TABLE ledger.blocks (
    partition     integer NOT NULL,
    incarnation   integer NOT NULL,
    block         bigint NOT NULL,
    first_offset  bigint NOT NULL,
    next_offset   bigint NOT NULL,
    event_rows    bigint NOT NULL,
    billed        bigint NOT NULL,
    position_hash bigint NOT NULL,                            -- sum of intHash64(position), modulo 2^64, as signed
    epoch         bigint NOT NULL,                            -- of the latest attempt
    attempt       integer NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    stored_at     timestamptz,
    verified_at   timestamptz,
    PRIMARY KEY (partition, incarnation, block, created_at)
) PARTITION BY RANGE (created_at);
CREATE TABLE ledger.blocks_default PARTITION OF ledger.blocks DEFAULT;
CREATE INDEX blocks_not_stored ON ledger.blocks (partition, block) WHERE stored_at IS NULL;
CREATE INDEX blocks_not_verified ON ledger.blocks (partition, block) WHERE verified_at IS NULL;

-- The partitions of both tables for one day (UTC); called a day ahead, so that an insert never waits for it.
CREATE FUNCTION ledger.create_day(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    suffix text := to_char(day, 'YYYYMMDD');
    lower_bound text := quote_literal(to_char(day, 'YYYY-MM-DD') || ' 00:00:00+00');
    upper_bound text := quote_literal(to_char(day + 1, 'YYYY-MM-DD') || ' 00:00:00+00');
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ledger.create_day'));
    FOREACH name IN ARRAY ARRAY['batches', 'blocks'] LOOP
        EXECUTE format('CREATE TABLE IF NOT EXISTS ledger.%I PARTITION OF ledger.%I FOR VALUES FROM (%s) TO (%s)',
                       name || '_' || suffix, name, lower_bound, upper_bound);
    END LOOP;
END $$;

-- Records that must reach Kafka because a transaction of the ledger committed; drained in order of id.
CREATE TABLE ledger.outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic      text NOT NULL,
    key        bytea,
    value      bytea NOT NULL,
    partition  integer,
    created_at timestamptz NOT NULL DEFAULT now()
);
