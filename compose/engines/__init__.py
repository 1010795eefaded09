"""The embedded Kafka, Postgres and ClickHouse: how each is prepared, started and known to be ready."""
