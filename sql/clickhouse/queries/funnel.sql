-- How many went on from impression to click to conversion? One row.
-- Rates are percentages, rounded half up to 1 decimal; null where nobody could go on. Bots are left out.
-- Reads projection by_day.
-- Parameters: campaign; from (inclusive) and to (exclusive), days in UTC.
SELECT
    sumIf(events, type = 'IMPRESSION') AS impressions,
    sumIf(events, type = 'CLICK')      AS clicks,
    sumIf(events, type = 'CONVERSION') AS conversions,
    -- Half up in integers: floor(1000 * clicks / impressions + 1/2) tenths of a percent.
    intDiv(2000 * clicks + impressions, nullIf(2 * impressions, 0)) / 10 AS ctr,
    intDiv(2000 * conversions + clicks, nullIf(2 * clicks, 0)) / 10      AS conversion_rate
FROM
(
    SELECT type, count() AS events
    FROM events
    WHERE campaign_id = {campaign:UUID} AND NOT bot
      AND toDate(occurred_at) >= {from:Date} AND toDate(occurred_at) < {to:Date}
    GROUP BY type
)
