-- Today and tomorrow, so that the first batch finds its partition; the aggregator creates the days that follow.
SELECT ledger.create_day((now() AT TIME ZONE 'UTC')::date), ledger.create_day((now() AT TIME ZONE 'UTC')::date + 1);
