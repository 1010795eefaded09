"""All SQL, by name and by owner: migrations and queries of Postgres and ClickHouse."""
