-- All ids that were counted in a range of a partition's log, in the order of the log: both halves of their keys
-- (`key_of` in aggregator/seen_ids.py), position, when received (epoch milliseconds).
-- Parameters: partition, incarnation, first_offset, next_offset (exclusive), since (received, epoch milliseconds).
WITH SHA256(concat(toString(organization_id), '\0', event_id)) AS hash
SELECT reinterpretAsUInt64(substring(hash, 1, 8)), reinterpretAsUInt64(substring(hash, 9, 8)),
    log_offset * 1024 + event_index AS position, toUInt64(toUnixTimestamp64Milli(received_at))
FROM events
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32}
  AND log_offset >= {first_offset:UInt64} AND log_offset < {next_offset:UInt64}
  AND received_at >= fromUnixTimestamp64Milli({since:Int64})
ORDER BY position
-- Keys are made before they are sorted: they are shorter than what they are made of.
SETTINGS max_bytes_before_external_sort = 268435456, query_plan_execute_functions_after_sorting = 0
