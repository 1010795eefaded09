-- What keeps imports apart from themselves, and work from growing with history.

-- The campaigns that rows of an upsert were about so far: a row that names none of them by its id must not be taken
-- for one of them by its name. Gone when the job is done.
CREATE TABLE control.job_campaigns (
    job_id      uuid NOT NULL REFERENCES control.jobs (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    PRIMARY KEY (job_id, campaign_id)
);

-- Crossings of the last months that no status has followed are looked for every quarter of a minute.
CREATE INDEX crossings_by_time ON ledger.crossings (crossed_at);

-- Campaigns whose end has come are looked for four times a second: those that were deleted before it stay due for good.
DROP INDEX control.idx_campaigns_due;
CREATE INDEX idx_campaigns_due ON control.campaigns (end_date)
    WHERE status IN ('ACTIVE', 'PAUSED') AND deleted_at IS NULL;
