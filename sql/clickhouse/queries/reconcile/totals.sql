-- Each campaign's figures from the rows themselves (the settings keep the projections out).
SELECT campaign_id, type, reason, sum(1) AS events, sum(billed) AS billed, sum(overdelivery) AS overdelivery,
       sum(revenue) AS revenue
FROM events
GROUP BY campaign_id, type, reason
SETTINGS optimize_use_projections = 0, optimize_use_implicit_projections = 0
