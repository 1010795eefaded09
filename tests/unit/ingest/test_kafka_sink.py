"""The way into Kafka: what its client gets wrong by itself costs no event."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from ingest.domain.circuit import State
from ingest.errors import NotConfirmed
from ingest.kafka_sink import KafkaSink


class Mistaken:
    """A producer that fails as aiokafka does with a mistake of its own."""

    _closed = False
    _sender = SimpleNamespace(sender_task=None)

    def __init__(self) -> None:
        self.client = self

    async def send(self, *_: object, **__: object) -> None:
        raise AssertionError("Unrecognized partition")

    async def close(self) -> None:
        return


async def test_a_mistake_of_the_client_counts_as_not_confirmed_and_another_client_is_made() -> None:
    sink = KafkaSink("127.0.0.1:9", deadline_seconds=1)
    sink._producer = cast("Any", Mistaken())  # noqa: SLF001  as `run` does, without a Kafka
    sink._circuit.connected()  # noqa: SLF001  as `run` does
    with pytest.raises(NotConfirmed):
        await sink.deliver(0, b"")
    assert sink.state is State.OPEN
    await sink.close()
