KILL QUERY
-- Ends the inserts of older epochs of a partition that still run, and waits for their end.
-- Their ids are flightline-PARTITION-INCARNATION-BLOCK-EPOCH-ATTEMPT.
-- Parameters: prefix (LIKE pattern of the partition's ids), epoch.
WHERE query_id LIKE {prefix:String} AND toUInt64OrZero(splitByChar('-', query_id)[5]) < {epoch:UInt64}
SYNC
