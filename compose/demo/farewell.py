"""What to open and to try, once the demo's story is told."""

from compose.ready import Ready


def farewell(ready: Ready, campaign_id: str) -> str:
    """Addresses and commands that work while the stack runs."""
    api = f"{ready.control_api}/api/v1"
    return f"""
open
  {ready.control_api}/docs   the control API's pages
  {ready.ingest}/metrics   the door's metrics

try
  export TOKEN={ready.admin_token}
  export KEY={ready.write_key}
  curl -s {api}/campaigns -H "Authorization: Bearer $TOKEN"
  curl -s {api}/campaigns/{campaign_id}/metrics -H "Authorization: Bearer $TOKEN"
  curl -s "{ready.ingest}/v1/serve?campaigns={campaign_id}" -H "X-Write-Key: $KEY"
  curl -s {ready.ingest}/v1/events -H "X-Write-Key: $KEY" -H "Content-Type: application/json" \\
       -d '{{"campaignId": "{campaign_id}", "type": "IMPRESSION"}}'
"""
