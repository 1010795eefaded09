"""What each service asks of Python and of the system for its own process."""

import gc
import resource

_COLLECTED_AFTER = (50_000, 20, 50)


def spare_the_collector() -> None:
    """To be called once, when all is made: what is there by now stays, and is not looked at any more.

    A look at the whole program takes some 70 ms, in which nobody is answered, and a list of 1,000 campaigns
    would bring one about. Requests and events leave next to no cycles: what they leave is looked for after
    50,000 objects, instead of 700, which would take a tenth of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)


def allow_open_files(wanted: int) -> int:
    """How many files this process may have open now: as many as are wanted, or as the system allows.

    Many systems give a process 1,024 files at first, and more to one that asks: the limit is raised as far as
    it goes.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def allow_connections(wanted: int, others: int) -> int:
    """As many connections as are wanted, beside `others` open files, or as the limit of open files allows.

    Without a limit of its own a flood of connections would take the last file from everything else.
    """
    return max(1, allow_open_files(wanted + others) - others)
