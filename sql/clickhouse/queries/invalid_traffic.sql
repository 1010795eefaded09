-- How much of a campaign's traffic was bots? One row for each day (UTC) that has any of its events.
-- Reads projection by_day.
-- Parameters: campaign; from (inclusive) and to (exclusive), days in UTC.
SELECT
    day,
    sumIf(counted, bot AND type = 'IMPRESSION')  AS invalid_impressions,
    sumIf(counted, bot AND type = 'CLICK')      AS invalid_clicks,
    sumIf(counted, bot AND type = 'CONVERSION') AS invalid_conversions,
    sumIf(counted, bot)                          AS invalid_events,
    sum(counted)                                 AS events
FROM
(
    SELECT toDate(occurred_at) AS day, type, bot, count() AS counted
    FROM events
    WHERE campaign_id = {campaign:UUID}
      AND toDate(occurred_at) >= {from:Date} AND toDate(occurred_at) < {to:Date}
    GROUP BY day, type, bot
)
GROUP BY day
ORDER BY day
