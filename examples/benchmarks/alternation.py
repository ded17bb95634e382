"""Times that a busy machine does not spoil: several pieces of work in turn, round after round, and the median of each.

What is compared stands in one result file and was measured in one run. Processor time (of all threads, in user and
system mode) is what other processes on the machine disturb least.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, dict[str, Any]]:
    """Do every piece of work ``rounds`` times in turn.

    Args:
        works: by name.
        rounds: how often.

    Returns:
        By name, the medians ``processor``, seconds of processor time of this process and of those that the work started
        and waited for, and ``wall``, seconds that went by; and ``rounds``, the processor time of each round.
    """
    processor: dict[str, list[float]] = {name: [] for name in works}
    wall: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            started, before = time.monotonic(), _processor_time()
            work()
            processor[name].append(_processor_time() - before)
            wall[name].append(time.monotonic() - started)
    return {
        name: {"processor": statistics.median(each), "wall": statistics.median(wall[name]), "rounds": each}
        for name, each in processor.items()
    }


def _processor_time() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
