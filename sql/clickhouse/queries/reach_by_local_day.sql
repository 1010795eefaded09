-- How many different visitors did a campaign reach on each day of a time zone? One row for each day that has events.
-- Estimated (uniq, within about 1 %); a visitor of two days is in both. Bots are left out.
-- Days are built from quarter-hours: every time zone's days begin at one.
-- Reads projection by_quarter_hour.
-- Parameters: campaign; from (inclusive) and to (exclusive), UTC, both at quarter-hours; tz (IANA name).
SELECT toDate(toStartOfFifteenMinutes(occurred_at), {tz:String}) AS day,
       uniqIf(visitor_id, notEmpty(visitor_id)) AS visitors
FROM events
WHERE campaign_id = {campaign:UUID} AND NOT bot
  AND toStartOfFifteenMinutes(occurred_at) >= {from:DateTime('UTC')}
  AND toStartOfFifteenMinutes(occurred_at) < {to:DateTime('UTC')}
GROUP BY day
ORDER BY day
