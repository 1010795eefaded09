-- Deletes the rows of a block that older inserts than (epoch, attempt) left in one month; newer ones stay, and all of
-- them while a newer epoch of the partition stands in the fence.
-- Not a lightweight DELETE: those are refused beside projections.
-- Parameters: month (yyyymm of received_at), partition, incarnation, block, epoch, attempt.
ALTER TABLE events DELETE IN PARTITION {month:UInt32}
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32} AND block = {block:UInt64}
  AND (epoch, attempt) < ({epoch:UInt64}, {attempt:UInt32})
  AND {epoch:UInt64} >= (SELECT max(epoch) FROM fence WHERE partition = {partition:UInt16})
