-- When the server started, in epoch seconds, exact to a second or two.
SELECT toUnixTimestamp(now()) - uptime()
