-- The ids of a range that the log holds no more, and that copies after it may repeat.
SELECT organization_id, event_id, toUnixTimestamp64Milli(received_at) AS received_at
FROM events AS e
WHERE e.partition = {partition:UInt16} AND e.incarnation = {incarnation:UInt32}
  AND e.log_offset >= {first_offset:UInt64} AND e.log_offset < {next_offset:UInt64}
  AND e.received_at >= fromUnixTimestamp64Milli({since:Int64})
