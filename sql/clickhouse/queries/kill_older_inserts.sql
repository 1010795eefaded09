KILL QUERY
-- Ends the inserts with a block of an older epoch of a partition that still run, and waits for their end.
-- Their ids are flightline-BLOCK_BLOCK…, each block PARTITION-INCARNATION-NUMBER-EPOCH-ATTEMPT.
-- Parameters: partition, epoch.
WHERE startsWith(query_id, 'flightline-') AND arrayExists(
    block -> splitByChar('-', block)[1] = toString({partition:UInt16})
        AND toUInt64OrZero(splitByChar('-', block)[4]) < {epoch:UInt64},
    splitByChar('_', substring(query_id, 12))
)
SYNC
