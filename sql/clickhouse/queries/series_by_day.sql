-- How did a campaign run? One row for each day of a time zone that has events.
-- Bots are left out, unbilled events count. Money is micros (10^-6) of the campaign's currency.
-- Days are built from quarter-hours: every time zone's days begin at one.
-- Reads projection by_quarter_hour.
-- Parameters: campaign; from (inclusive) and to (exclusive), UTC, both at quarter-hours; tz (IANA name).
SELECT
    toDate(quarter_hour, {tz:String}) AS day,
    sumIf(events, type = 'IMPRESSION')  AS impressions,
    sumIf(events, type = 'CLICK')       AS clicks,
    sumIf(events, type = 'CONVERSION')  AS conversions,
    sumIf(events, type = 'BOUNCE')      AS bounces,
    sumIf(events, type = 'UNSUBSCRIBE') AS unsubscribes,
    sum(billed_micros)                  AS cost,
    sum(overdelivery_micros)            AS overdelivery_cost,
    sum(revenue_micros)                 AS revenue,
    max(newest)                         AS last_updated
FROM
(
    SELECT toStartOfFifteenMinutes(occurred_at) AS quarter_hour, type,
           count() AS events, sum(billed) AS billed_micros, sum(overdelivery) AS overdelivery_micros,
           sum(revenue) AS revenue_micros, max(received_at) AS newest
    FROM events
    WHERE campaign_id = {campaign:UUID} AND NOT bot
      AND quarter_hour >= {from:DateTime('UTC')} AND quarter_hour < {to:DateTime('UTC')}
    GROUP BY quarter_hour, type
)
GROUP BY day
ORDER BY day
