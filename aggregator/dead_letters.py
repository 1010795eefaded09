"""Publishes what can't be decoded, before the batch that held it is billed."""

import asyncio
from collections.abc import Sequence

import msgspec

from schemas import dead_letters
from schemas.dead_letters import DeadLetter
from sql.outbox import Publish


class DeadLetters:
    """Sends dead letters through the publish port; a batch that is billed twice publishes them twice."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    async def send(self, letters: Sequence[DeadLetter]) -> None:
        """Returns when Kafka has all of them; raises what the port raises."""
        await asyncio.gather(
            *(
                self._publish(dead_letters.TOPIC, key=None, value=msgspec.json.encode(letter), partition=None)
                for letter in letters
            )
        )
