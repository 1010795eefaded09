-- In which months (yyyymm of received_at) rows of a block stand. Reads these columns of all months.
-- Parameters: partition, incarnation, block.
SELECT DISTINCT toYYYYMM(received_at)
FROM events
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32} AND block = {block:UInt64}
