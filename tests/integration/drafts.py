"""Many campaigns at once, for tests that need them there."""

MANY = """
WITH made AS (
    INSERT INTO control.campaigns (
        id, organization_id, name, description, type, targeting_rules, start_date, end_date, currency,
        settings, created_by
    )
    SELECT
        gen_random_uuid(), organization_id, name || n, description, type, targeting_rules, start_date,
        end_date, currency, settings, created_by
    FROM control.campaigns, generate_series(1, $2::int) AS n
    WHERE id = $1::uuid
    RETURNING id, organization_id, currency
), accounts AS (
    INSERT INTO ledger.accounts (campaign_id, organization_id, currency) SELECT * FROM made
)
SELECT id::text FROM made
"""
"""So many drafts ($2) like one that is there ($1); returns their ids."""
