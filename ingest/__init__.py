"""The door: takes events over HTTP, decides and stamps what they cost, and promises them to the log."""
