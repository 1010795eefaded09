"""A replay from the file to the summary: rows become events, answers are counted and kept."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from compose.replay.door import Door
from compose.replay.errors import BadRow
from compose.replay.plan import OutgoingEvent, Plan, events_of
from compose.replay.promises import PromisesFile
from compose.replay.sender import Answered, Observer, Options, Sender
from compose.replay.source import Source
from compose.replay.tally import Tally


class Replay:
    """One run of `flightline replay`. `tally` is true at any moment, also after an error."""

    def __init__(
        self, source: Source, plan: Plan, options: Options, promises: Path | None, console: Console
    ) -> None:
        self.tally = Tally()
        self._source = source
        self._plan = plan
        self._options = options
        self._promises = None if promises is None else PromisesFile(promises)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar: TaskID = self._progress.add_task(source.path.name, total=source.size or None, note="")

    async def run(self, door: Door) -> None:
        """Sends the file. Raises what Sender.run and Source.rows raise."""
        started = time.monotonic()
        observer = Observer(answered=self._answered, skipped=self._skipped, retried=self._retried)
        try:
            with self._progress:
                async with door:
                    self._sender = Sender(door, self._options, observer)
                    await self._sender.run(self._events())
                self._progress.update(self._bar, completed=self._source.size, note=self._note())
        finally:
            self.tally.seconds = time.monotonic() - started
            if self._promises is not None:
                self._promises.close()

    def _events(self) -> Iterator[OutgoingEvent]:
        for row in self._source.rows():
            if row.columns is None:
                self.tally.add_malformed(row, row.problem)
                continue
            try:
                events = events_of(self._plan, row.columns, row.number)
            except BadRow as error:
                self.tally.add_malformed(row, str(error))
                continue
            self.tally.other_rows += not events
            yield from events

    def _answered(self, answered: Answered) -> None:
        # Kept before it is counted: a summary must not claim what a reconcile will not find.
        if self._promises is not None:
            self._promises.append(answered)
        for event, result in answered:
            self.tally.add(event, result)
        self._progress.update(self._bar, completed=self._source.position, note=self._note())

    def _skipped(self, _: OutgoingEvent, reason: str) -> None:
        self.tally.skipped[reason] += 1

    def _retried(self, events: int) -> None:
        self.tally.retried += events
        self._progress.update(self._bar, note=f"{self._note()}, the door is away: sending again")

    def _note(self) -> str:
        waiting = self._sender.waiting_for
        held = f", {sum(waiting.values()):,} wait for {len(waiting)} closed campaigns" if waiting else ""
        return f"{self.tally.answered:,} answered{held}"
