-- What is stored of a block, by the insert that brought it: rows, billed micros, sum of the positions' hashes.
-- Reads the projection by_block. The hash wraps modulo 2^64.
-- Parameters: partition, incarnation, block.
SELECT epoch, attempt, count(), sum(billed), sum(intHash64(log_offset * 1024 + event_index))
FROM events
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32} AND block = {block:UInt64}
GROUP BY epoch, attempt
ORDER BY epoch, attempt
