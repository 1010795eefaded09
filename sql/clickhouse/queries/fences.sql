-- The newest epoch of each of these partitions that has one.
-- Parameters: partitions.
SELECT partition, max(epoch)
FROM fence
WHERE partition IN {partitions:Array(UInt16)}
GROUP BY partition
