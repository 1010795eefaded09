-- How did a campaign run, minute by minute? One row for each minute that has events, in UTC.
-- Bots are left out, unbilled events count. Money is micros (10^-6) of the campaign's currency.
-- Reads the campaign's rows of the period (primary key), no projection: ask for some days at most.
-- Parameters: campaign; from (inclusive) and to (exclusive), UTC.
SELECT
    toStartOfMinute(occurred_at)      AS at,
    countIf(type = 'IMPRESSION')      AS impressions,
    countIf(type = 'CLICK')           AS clicks,
    countIf(type = 'CONVERSION')      AS conversions,
    countIf(type = 'BOUNCE')          AS bounces,
    countIf(type = 'UNSUBSCRIBE')     AS unsubscribes,
    sum(billed)                       AS cost,
    sum(overdelivery)                 AS overdelivery_cost,
    sum(revenue)                      AS revenue,
    max(received_at)                  AS last_updated
FROM events
WHERE campaign_id = {campaign:UUID} AND NOT bot
  AND type IN ('IMPRESSION', 'CLICK', 'CONVERSION', 'BOUNCE', 'UNSUBSCRIBE')
  AND occurred_at >= {from:DateTime64(3, 'UTC')} AND occurred_at < {to:DateTime64(3, 'UTC')}
GROUP BY at
ORDER BY at
