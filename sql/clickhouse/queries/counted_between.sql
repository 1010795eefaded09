-- All ids that were counted in a range of a partition's log, in the order of the log: organization and
-- eventId with a NUL between them, position, when received.
-- Parameters: partition, incarnation, first_offset, next_offset (exclusive), since (received, epoch milliseconds).
SELECT concat(toString(organization_id), '\0', event_id) AS id, log_offset * 1024 + event_index,
    toUnixTimestamp64Milli(received_at)
FROM events
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32}
  AND log_offset >= {first_offset:UInt64} AND log_offset < {next_offset:UInt64}
  AND received_at >= fromUnixTimestamp64Milli({since:Int64})
ORDER BY log_offset, event_index
SETTINGS max_bytes_before_external_sort = 268435456
