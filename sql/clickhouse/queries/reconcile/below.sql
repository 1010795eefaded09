-- Each campaign's figures below the offset where a partition's log begins now.
SELECT campaign_id, type, reason, count() AS events, sum(billed) AS billed, sum(overdelivery) AS overdelivery,
       sum(revenue) AS revenue
FROM events
WHERE partition = {partition:UInt16} AND log_offset < {first_offset:UInt64}
GROUP BY campaign_id, type, reason
SETTINGS optimize_use_projections = 0
