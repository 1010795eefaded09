-- Pages of the list of campaigns: one index for each order, by organization first, so that a page reads its own rows
-- and nothing of other organizations (control_list.sql has the orders). created_at and updated_at have theirs.
CREATE INDEX campaigns_by_name ON control.campaigns (organization_id, (lower(name) COLLATE "C"), id)
    WHERE deleted_at IS NULL;
CREATE INDEX campaigns_by_status ON control.campaigns (organization_id, ((status::text) COLLATE "C"), id)
    WHERE deleted_at IS NULL;
CREATE INDEX campaigns_by_start ON control.campaigns (organization_id, start_date, id) WHERE deleted_at IS NULL;
-- What has no end ends after all others; what has no budget stands above all others.
CREATE INDEX campaigns_by_end
    ON control.campaigns (organization_id, (coalesce(end_date, 'infinity'::timestamptz)), id)
    WHERE deleted_at IS NULL;
CREATE INDEX campaigns_by_budget
    ON control.campaigns (organization_id, (coalesce(budget_amount, 'Infinity'::numeric)), id)
    WHERE deleted_at IS NULL;

-- Every change of a campaign writes into every index: what the new ones do as well is not kept twice.
DROP INDEX control.idx_campaigns_status;
DROP INDEX control.idx_campaigns_dates;

-- The key with which the control API itself speaks to the doors for an organization (`track`): its text follows from
-- the service's secret, so it stands nowhere; nobody sees it in a list or can revoke it.
ALTER TABLE control.access_keys ADD COLUMN internal boolean NOT NULL DEFAULT false;
