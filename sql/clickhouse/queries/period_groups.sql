-- How do channels, variants and countries of a campaign compare in a period? One row for each combination of the
-- dimensions that are asked for (the others are ''), most impressions first; '' is unknown, too.
-- Bots are left out, unbilled events count. Money is micros (10^-6) of the campaign's currency.
-- Reads projection by_quarter_hour.
-- `from` is inclusive, `to` exclusive, both at quarter-hours, UTC; what it is grouped by is 1, else 0.
-- Parameters: campaign, from, to, by_channel, by_variant, by_country, limit.
SELECT
    if({by_channel:UInt8}, channel_of, '') AS channel,
    if({by_variant:UInt8}, variant_of, '') AS variant,
    if({by_country:UInt8}, country_of, '') AS country,
    sumIf(events, type = 'IMPRESSION') AS impressions,
    sumIf(events, type = 'CLICK')      AS clicks,
    sumIf(events, type = 'CONVERSION') AS conversions,
    sum(billed_micros)                 AS cost,
    sum(overdelivery_micros)           AS overdelivery_cost,
    sum(revenue_micros)                AS revenue
FROM
(
    SELECT channel AS channel_of, variant AS variant_of, country AS country_of, type,
           count() AS events, sum(billed) AS billed_micros, sum(overdelivery) AS overdelivery_micros,
           sum(revenue) AS revenue_micros
    FROM events
    WHERE campaign_id = {campaign:UUID} AND NOT bot
      AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
      AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
    GROUP BY channel_of, variant_of, country_of, type
)
GROUP BY channel, variant, country
ORDER BY impressions DESC, channel, variant, country
LIMIT {limit:UInt32}
