-- The rows of a range of an incarnation of a partition, in the order of the log; times as epoch milliseconds.
SELECT organization_id, campaign_id, event_id, type,
       toUnixTimestamp64Milli(occurred_at) AS occurred_at, toUnixTimestamp64Milli(received_at) AS received_at,
       channel, placement, variant, country, visitor_id, customer_id, click_id, url, referrer, user_agent, data,
       currency, budget_version, billable, reason, bot, cost, billed, overdelivery, revenue, revenue_verified,
       incarnation, partition, log_offset, event_index
FROM events AS e
WHERE e.partition = {partition:UInt16} AND e.incarnation = {incarnation:UInt32} AND e.log_offset >= {first_offset:UInt64} AND e.log_offset < {next_offset:UInt64}
ORDER BY e.log_offset, e.event_index
