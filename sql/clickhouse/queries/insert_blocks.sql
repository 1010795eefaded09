INSERT INTO events
-- Stores blocks, one of each partition. The body has the log's own lines (JSONEachRow, times in epoch milliseconds; what
-- is left out is empty or zero, `billable` is true), each with its position and what was billed of it.
-- A row passes only while no newer epoch of its partition stands in the fence.
-- Parameters: partitions, incarnations, blocks, epochs, attempts; an array each, with an element for each block.
(
    organization_id, campaign_id, event_id, type, occurred_at, received_at, channel, placement, variant, country,
    visitor_id, customer_id, click_id, url, referrer, user_agent, data, currency, budget_version, billable, reason,
    bot, cost, billed, overdelivery, revenue, revenue_verified, incarnation, partition, log_offset, event_index,
    block, epoch, attempt
)
WITH
    indexOf({partitions:Array(UInt16)}, partition) AS here,
    (
        SELECT CAST((groupArray(partition), groupArray(newest)), 'Map(UInt16, UInt64)')
        FROM
        (
            SELECT partition, max(epoch) AS newest FROM fence
            WHERE partition IN {partitions:Array(UInt16)}
            GROUP BY partition
        )
    ) AS fences
SELECT
    organizationId, campaignId, eventId, type,
    fromUnixTimestamp64Milli(occurredAt, 'UTC'), fromUnixTimestamp64Milli(receivedAt, 'UTC'),
    channel, placement, variant, country, visitorId, customerId, clickId, url, referrer, userAgent, data,
    currency, budgetVersion, ifNull(billable, true), reason, reason = 'BOT', billed + overdelivery, billed, overdelivery,
    revenue, revenueVerified, {incarnations:Array(UInt32)}[here], partition,
    bitShiftRight(position, 10), bitAnd(position, 1023),
    {blocks:Array(UInt64)}[here], {epochs:Array(UInt64)}[here], {attempts:Array(UInt32)}[here]
FROM input(
    'partition UInt16, position UInt64, billed Int64, overdelivery Int64,
     organizationId UUID, campaignId UUID, eventId String, type String, occurredAt Int64, receivedAt Int64,
     channel String, placement String, variant String, country String, visitorId String, customerId String,
     clickId String, url String, referrer String, userAgent String, data String, currency String,
     budgetVersion UInt32, billable Nullable(Bool), reason String, revenue Int64, revenueVerified Bool')
WHERE {epochs:Array(UInt64)}[here] >= fences[partition]
FORMAT JSONEachRow
