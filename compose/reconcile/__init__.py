"""`flightline reconcile`: promises, log, ledger and ClickHouse side by side."""

from compose.reconcile.command import command

__all__ = ["command"]
