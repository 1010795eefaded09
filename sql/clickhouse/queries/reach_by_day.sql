-- How many different visitors did a campaign reach on each day (UTC)? One row for each day that has events.
-- Estimated (uniq, within about 1 %); a visitor of two days is in both. Bots are left out.
-- Reads projection by_day.
-- Parameters: campaign; from (inclusive) and to (exclusive), days in UTC.
SELECT toDate(occurred_at) AS day, uniqIf(visitor_id, notEmpty(visitor_id)) AS visitors
FROM events
WHERE campaign_id = {campaign:UUID} AND NOT bot
  AND toDate(occurred_at) >= {from:Date} AND toDate(occurred_at) < {to:Date}
GROUP BY day
ORDER BY day
