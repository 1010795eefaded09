-- How do the channels of a campaign compare? One row for each channel, most impressions first.
-- Bots are left out, unbilled events count; '' is unknown. Money is micros of the campaign's currency.
-- Reads projection by_day.
-- Parameters: campaign; from (inclusive) and to (exclusive), days in UTC.
SELECT
    channel,
    sumIf(events, type = 'IMPRESSION') AS impressions,
    sumIf(events, type = 'CLICK')      AS clicks,
    sumIf(events, type = 'CONVERSION') AS conversions,
    sum(billed_micros)                 AS cost,
    sum(overdelivery_micros)           AS overdelivery_cost,
    sum(revenue_micros)                AS revenue
FROM
(
    SELECT channel, type,
           count() AS events, sum(billed) AS billed_micros, sum(overdelivery) AS overdelivery_micros,
           sum(revenue) AS revenue_micros
    FROM events
    WHERE campaign_id = {campaign:UUID} AND NOT bot
      AND toDate(occurred_at) >= {from:Date} AND toDate(occurred_at) < {to:Date}
    GROUP BY channel, type
)
GROUP BY channel
ORDER BY impressions DESC, channel
