-- One row for each event that was counted (duplicates have none). Money is integer micros of `currency`.
CREATE TABLE events
(
    organization_id  UUID,
    campaign_id      UUID,
    event_id         String,
    type             LowCardinality(String),
    occurred_at      DateTime64(3, 'UTC'),
    received_at      DateTime64(3, 'UTC'),
    channel          LowCardinality(String),
    placement        LowCardinality(String),
    variant          LowCardinality(String),
    country          LowCardinality(String),
    visitor_id       String,
    customer_id      String,
    click_id         String,
    url              String CODEC(ZSTD(3)),
    referrer         String CODEC(ZSTD(3)),
    user_agent       String CODEC(ZSTD(3)),
    data             String CODEC(ZSTD(3)),
    currency         LowCardinality(String),
    budget_version   UInt32,
    billable         Bool,
    reason           LowCardinality(String) COMMENT 'why not billable; BOT rows are in no metric',
    bot              Bool,
    cost             Int64 COMMENT 'what the event was to cost; billed + overdelivery',
    billed           Int64,
    overdelivery     Int64,
    revenue          Int64,
    revenue_verified Bool,
    -- Coordinates: where the event stands in the log, and which insert brought the row.
    incarnation      UInt32,
    partition        UInt16,
    log_offset       UInt64,
    event_index      UInt16,
    block            UInt64,
    epoch            UInt64,
    attempt          UInt32,

    -- Rollups live in the part of their rows, so no crash can make them disagree.
    -- Quarter-hours, because every time zone's days begin at one.
    -- Organization and currency follow from the campaign: they make no more rows, and spend by organization cheap.
    PROJECTION by_quarter_hour
    (
        SELECT campaign_id, type, channel, variant, country, bot, toStartOfFifteenMinutes(occurred_at), organization_id, currency,
               count(), sum(billed), sum(overdelivery), sum(revenue), uniqIf(visitor_id, notEmpty(visitor_id)), max(received_at)
        GROUP BY campaign_id, type, channel, variant, country, bot, toStartOfFifteenMinutes(occurred_at), organization_id, currency
    ),
    PROJECTION by_day
    (
        SELECT campaign_id, type, channel, variant, country, bot, toDate(occurred_at), organization_id, currency,
               count(), sum(billed), sum(overdelivery), sum(revenue), uniqIf(visitor_id, notEmpty(visitor_id)), max(received_at)
        GROUP BY campaign_id, type, channel, variant, country, bot, toDate(occurred_at), organization_id, currency
    ),
    -- What a block's verification reads.
    PROJECTION by_block
    (
        SELECT partition, incarnation, block, epoch, attempt,
               count(), sum(billed), sum(intHash64(log_offset * 1024 + event_index))
        GROUP BY partition, incarnation, block, epoch, attempt
    )
)
ENGINE = ${merge_tree}
PARTITION BY toYYYYMM(received_at)
ORDER BY (campaign_id, type, occurred_at)
TTL toDateTime(received_at) + INTERVAL ${retention_months} MONTH
-- Both fsyncs, because a block that is marked stored must outlive a power cut.
SETTINGS non_replicated_deduplication_window = 10000,
         fsync_after_insert = 1, fsync_part_directory = 1;
