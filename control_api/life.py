"""The end of the process: told to balancers before anything is refused, and not put off by what is stuck."""

from collections.abc import Callable


class Life:
    """Set by SIGTERM: `stopping` makes /ready answer 503 while requests are still served, `give_up` fails the
    requests that an engine keeps waiting."""

    def __init__(self) -> None:
        self.stopping = False
        self.give_up: Callable[[], None] = lambda: None
