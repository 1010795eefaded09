"""The folder of a partition's sealed seen ids: which of its files are of use, and how far they reach."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from aggregator import seen_segment
from aggregator.seen_segment import CorruptSegment, Coverage, Segment

log = structlog.get_logger(__name__)

_ATTEMPTS_TO_OPEN = 100
_LEFTOVERS = frozenset({".tmp", ".corrupt"})


def load(folder: Path, incarnation: int) -> list[Segment]:
    """Opens every segment, of this incarnation and those before, that no other one contains, in order of
    offsets, and deletes those contained.

    Corrupt ones are put aside. Another owner may be merging and removing files at the same time: then the
    folder is read again.
    """
    for _ in range(_ATTEMPTS_TO_OPEN):
        names = [Coverage.of(path) for path in folder.glob(f"*{seen_segment.SUFFIX}")]
        known = [name for name in names if name is not None and name.incarnation <= incarnation]
        wanted = {name for name in known if not any(name.within(other) for other in known)}
        segments = []
        for name in sorted(wanted):
            path = folder / name.file_name
            try:
                segments.append(seen_segment.open_segment(path))
            except FileNotFoundError:
                break
            except CorruptSegment as error:
                log.warning("a segment of seen ids is corrupt", file=path.name, reason=str(error))
                seen_segment.put_aside(path)
                break
        else:
            for name in set(known) - wanted:
                (folder / name.file_name).unlink(missing_ok=True)
            return segments
    raise OSError(f"the segments of seen ids in {folder} change too fast to be read")


def clean(folder: Path, incarnation: int, before: int) -> None:
    """Removes what nobody reads any more: segments of earlier incarnations, files half-written or corrupt."""
    for path in folder.iterdir():
        name = Coverage.of(path)
        old = name is not None and name.incarnation < incarnation and name.newest_at < before
        with contextlib.suppress(FileNotFoundError):
            if old or (path.suffix in _LEFTOVERS and path.stat().st_mtime_ns // 1_000_000 < before):
                path.unlink()


def covered(
    segments: Sequence[Segment], oldest_needed: int, first_offset: int, next_offset: int
) -> tuple[int, bool]:
    """How far the segments of an incarnation reach without a hole, and whether that is as far as the ledger.

    They begin where nothing before can be asked for: at its first offset, or after a pause of a whole window.
    """
    begins = [
        segment.coverage.first_offset
        for segment in segments
        if segment.coverage.first_offset <= first_offset or segment.preceding_at < oldest_needed
    ]
    if not begins:
        return first_offset, next_offset == first_offset
    covered = max(begins)
    for segment in segments:
        if segment.coverage.first_offset > covered:
            break
        covered = max(covered, segment.coverage.next_offset)
    return covered, covered >= next_offset
