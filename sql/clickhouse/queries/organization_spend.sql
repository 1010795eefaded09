-- What did an organization spend? One row for each day (UTC) and currency.
-- Money is micros of the currency. Bots cost nothing and are in no count.
-- Reads projection by_day.
-- Parameters: organization; from (inclusive) and to (exclusive), days in UTC.
SELECT
    toDate(occurred_at) AS day,
    currency,
    count()             AS events,
    sum(billed)         AS cost,
    sum(overdelivery)   AS overdelivery_cost
FROM events
WHERE organization_id = {organization:UUID} AND NOT bot
  AND toDate(occurred_at) >= {from:Date} AND toDate(occurred_at) < {to:Date}
GROUP BY day, currency
ORDER BY day, currency
