-- The newest epoch of each partition: an insert of an older owner selects nothing.
CREATE TABLE fence
(
    partition UInt16,
    epoch     UInt64,
    owner     String,
    at        DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ${merge_tree}
ORDER BY (partition, epoch)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;
