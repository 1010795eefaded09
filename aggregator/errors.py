"""What can go wrong in the aggregator, as one tree."""


class AggregatorError(Exception):
    """Any error of the aggregator."""


class SettingsError(AggregatorError):
    """A setting is missing or contradicts another; the sentence names its variable."""


class FencedError(AggregatorError):
    """Another process owns this partition now: this one must stop touching it."""


class LogGapError(AggregatorError):
    """The log does not go on where the ledger ended: records are missing. Never skipped over."""


class LogUnavailable(AggregatorError):
    """Kafka can't be reached or did not answer, so the log can't be read again now."""


class NotSought(AggregatorError):
    """Partitions were assigned and never sought: Faust hangs, and nothing would be billed for good."""


class LedgerGapError(AggregatorError):
    """The ledger lacks what it must hold: a bug, or rows that somebody has removed. Never skipped over."""


class StoreError(AggregatorError):
    """ClickHouse refused a statement, or stored something else than what was sent. Somebody has to mend that
    (a password, a table, a disk), so the same is tried on; billing does not wait for it."""


class StoreUnavailable(AggregatorError):
    """ClickHouse can't be reached or did not answer: whether the statement ran is unknown."""
