"""ClickHouse, embedded (chdb), behind as much of ClickHouse's HTTP interface as clickhouse-connect uses.

Not here: HTTP sessions (`session_id` is accepted, but temporary tables and SET do not outlive a request),
external data, progress headers while a query runs, and compressed answers.
"""
