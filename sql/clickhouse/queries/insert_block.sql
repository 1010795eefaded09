INSERT INTO events
-- Stores one block. The rows come in the body as JSONEachRow, times in epoch milliseconds.
-- A row passes only while no newer epoch of its partition stands in the fence.
-- Parameters: partition, block, epoch, attempt.
(
    organization_id, campaign_id, event_id, type, occurred_at, received_at, channel, placement, variant, country,
    visitor_id, customer_id, click_id, url, referrer, user_agent, data, currency, budget_version, billable, reason,
    bot, cost, billed, overdelivery, revenue, revenue_verified, incarnation, partition, log_offset, event_index,
    block, epoch, attempt
)
SELECT
    organization_id, campaign_id, event_id, type,
    fromUnixTimestamp64Milli(occurred_at, 'UTC'), fromUnixTimestamp64Milli(received_at, 'UTC'),
    channel, placement, variant, country, visitor_id, customer_id, click_id, url, referrer, user_agent, data,
    currency, budget_version, billable, reason, bot, cost, billed, overdelivery, revenue, revenue_verified,
    incarnation, partition, log_offset, event_index,
    {block:UInt64}, {epoch:UInt64}, {attempt:UInt32}
FROM input(
    'organization_id UUID, campaign_id UUID, event_id String, type String, occurred_at Int64, received_at Int64,
     channel String, placement String, variant String, country String, visitor_id String, customer_id String,
     click_id String, url String, referrer String, user_agent String, data String, currency String,
     budget_version UInt32, billable Bool, reason String, bot Bool, cost Int64, billed Int64, overdelivery Int64,
     revenue Int64, revenue_verified Bool, incarnation UInt32, partition UInt16, log_offset UInt64,
     event_index UInt16')
WHERE {epoch:UInt64} >= (SELECT max(epoch) FROM fence WHERE partition = {partition:UInt16})
FORMAT JSONEachRow
