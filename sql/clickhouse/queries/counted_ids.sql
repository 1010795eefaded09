-- Which of these events were counted. Reads the index event_ids.
-- Parameters, put in by the driver: they may be too long for an address. campaigns, event_ids, since (received, epoch
-- milliseconds).
SELECT DISTINCT toString(organization_id), toString(campaign_id), event_id
FROM events
WHERE campaign_id IN (SELECT arrayJoin(%(campaigns)s::Array(UUID))) AND event_id IN %(event_ids)s
  AND received_at >= fromUnixTimestamp64Milli(%(since)s)
