-- How many different visitors did a campaign reach? One row.
-- Estimated (uniq, within about 1 %); events without a visitorId are in no reach. Bots are left out.
-- Reads projection by_day.
-- Parameters: campaign; from (inclusive) and to (exclusive), days in UTC.
SELECT uniqIf(visitor_id, notEmpty(visitor_id)) AS visitors
FROM events
WHERE campaign_id = {campaign:UUID} AND NOT bot
  AND toDate(occurred_at) >= {from:Date} AND toDate(occurred_at) < {to:Date}
