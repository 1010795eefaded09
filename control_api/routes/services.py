"""What routes hand to handlers."""

import msgspec
from litestar.datastructures import State

from control_api.auth.tokens import Tokens
from control_api.handlers.ports import Clock, Store


class Services(msgspec.Struct, frozen=True):
    """Built once, in app.py; stands in the application's state."""

    store: Store
    clock: Clock
    tokens: Tokens


def services_of(state: State) -> Services:
    """Litestar's dependency `services`."""
    services: Services = state.services
    return services
