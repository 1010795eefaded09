-- Each campaign's figures as the projection by_day holds them; fails rather than read the rows.
SELECT campaign_id, type, bot, sum(events) AS events, sum(billed) AS billed, sum(overdelivery) AS overdelivery,
       sum(revenue) AS revenue
FROM
(
    SELECT campaign_id, type, bot, count() AS events, sum(billed) AS billed,
           sum(overdelivery) AS overdelivery, sum(revenue) AS revenue
    FROM events
    GROUP BY campaign_id, type, channel, variant, country, bot, toDate(occurred_at)
)
GROUP BY campaign_id, type, bot
SETTINGS optimize_use_projections = 1, force_optimize_projection = 1, force_optimize_projection_name = 'by_day',
         preferred_optimize_projection_name = 'by_day'
