-- What is stored of a range of blocks, by the insert that brought it, as verify_block has it for one.
-- Reads the projection by_block. The hash wraps modulo 2^64.
-- Parameters: partition, first_block, last_block (inclusive).
SELECT incarnation, block, epoch, attempt, count(), sum(billed), sum(intHash64(log_offset * 1024 + event_index))
FROM events
WHERE partition = {partition:UInt16} AND block >= {first_block:UInt64} AND block <= {last_block:UInt64}
GROUP BY incarnation, block, epoch, attempt
ORDER BY incarnation, block, epoch, attempt
