"""The aggregator: bills the event log into the ledger, closes gates, stores rows in ClickHouse."""
