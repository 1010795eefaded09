-- Which campaigns of an organization delivered most on a day? Most impressions first.
-- Bots are left out, unbilled events count. Money is micros of the row's currency.
-- Reads projection by_day.
-- Parameters: organization; day (UTC); limit.
SELECT
    campaign_id,
    any(currency)                      AS currency,
    sumIf(events, type = 'IMPRESSION') AS impressions,
    sumIf(events, type = 'CLICK')      AS clicks,
    sumIf(events, type = 'CONVERSION') AS conversions,
    sum(billed_micros)                 AS cost,
    sum(overdelivery_micros)           AS overdelivery_cost,
    sum(revenue_micros)                AS revenue
FROM
(
    SELECT campaign_id, currency, type,
           count() AS events, sum(billed) AS billed_micros, sum(overdelivery) AS overdelivery_micros,
           sum(revenue) AS revenue_micros
    FROM events
    WHERE organization_id = {organization:UUID} AND NOT bot AND toDate(occurred_at) = {day:Date}
    GROUP BY campaign_id, currency, type
)
GROUP BY campaign_id
ORDER BY impressions DESC, campaign_id
LIMIT {limit:UInt32}
