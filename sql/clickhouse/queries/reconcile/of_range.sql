-- Each campaign's figures in a range of an incarnation of a partition, where the log holds it no more.
SELECT campaign_id, type, reason, count() AS events, sum(billed) AS billed, sum(overdelivery) AS overdelivery,
       sum(revenue) AS revenue
FROM events
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32}
  AND log_offset >= {first_offset:UInt64} AND log_offset < {next_offset:UInt64}
GROUP BY campaign_id, type, reason
SETTINGS optimize_use_projections = 0
