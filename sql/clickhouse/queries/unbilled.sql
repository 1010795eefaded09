-- Why were events of a campaign not billed? One row for each reason, most events first; BOT is among them.
-- Reads the campaign's rows (primary key), no projection: reasons are in none.
-- Parameters: campaign; from (inclusive) and to (exclusive), UTC.
SELECT reason, count() AS events
FROM events
WHERE campaign_id = {campaign:UUID} AND NOT billable
  AND occurred_at >= {from:DateTime64(3, 'UTC')} AND occurred_at < {to:DateTime64(3, 'UTC')}
GROUP BY reason
ORDER BY events DESC, reason
