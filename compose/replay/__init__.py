"""`flightline replay`: a file of events, sent through the door."""

from compose.replay.command import command

__all__ = ["command"]
