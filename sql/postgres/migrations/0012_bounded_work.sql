-- What keeps imports apart from themselves, and work from growing with history.

-- The campaigns that rows of an upsert were about so far: a row that names none of them by its id must not be taken
-- for one of them by its name. Gone when the job is done.
CREATE TABLE control.job_campaigns (
    job_id      uuid NOT NULL REFERENCES control.jobs (id) ON DELETE CASCADE,
    campaign_id uuid NOT NULL,
    PRIMARY KEY (job_id, campaign_id)
);
