-- Refuses inserts of older epochs of a partition from now on.
-- Parameters: partition, epoch, owner (for humans: which process).
INSERT INTO fence (partition, epoch, owner)
SELECT {partition:UInt16}, {epoch:UInt64}, {owner:String}
