-- Deletes the rows of a block that older inserts than (epoch, attempt) left; newer ones stay.
-- Not a lightweight DELETE: those are refused beside projections.
-- Parameters: partition, incarnation, block, epoch, attempt.
ALTER TABLE events DELETE
WHERE partition = {partition:UInt16} AND incarnation = {incarnation:UInt32} AND block = {block:UInt64}
  AND (epoch, attempt) < ({epoch:UInt64}, {attempt:UInt32})
