"""`flightline demo`: campaigns under simulated traffic, live in the terminal."""

from compose.demo.command import command

__all__ = ["command"]
