"""What can go wrong in a replay; each message is one sentence for the person at the terminal."""

from compose.errors import ComposeError


class ReplayError(ComposeError):
    """The replay can't begin or go on."""


class InvalidOption(ReplayError):
    """An option says something that can't be meant."""


class UnreadableFile(ReplayError):
    """The file is missing, cut off, or of no known format."""


class DoorRefused(ReplayError):
    """The door refuses whole requests: the key, its scopes, or the address are wrong."""


class DoorAway(ReplayError):
    """The door answered nothing usable for longer than the replay is patient."""


class BadRow(Exception):
    """A row that is not an event; it is reported with its line and skipped."""
