"""HTTP/1.1 for the door: connections, requests, answers. Knows nothing of events."""
