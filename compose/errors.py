"""What can go wrong in the embedded stack; every message is one sentence for the person at the terminal."""


class ComposeError(Exception):
    """The stack can't do what was asked; the message says why and how to mend it."""


class PinnedFileError(ComposeError):
    """A downloaded file is missing or is not the one that is pinned."""


class PortTakenError(ComposeError):
    """Something else listens on a port that the stack needs."""


class StateInUseError(ComposeError):
    """Another stack runs on this state directory."""


class NotReadyError(ComposeError):
    """A process did not become ready within its bound."""
