-- The newest epoch of a partition; 0 when there is none.
-- Parameters: partition.
SELECT max(epoch) FROM fence WHERE partition = {partition:UInt16}
