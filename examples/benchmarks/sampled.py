"""Where the processor time of a command goes: its stack, looked at after every few milliseconds of it.

    python examples/benchmarks/sampled.py FILE COMMAND ARGUMENTS...    # of hf-unlearnable; run_speed.py reads FILE

Nothing but the standard library is imported before the command starts, so that its own imports are seen. Calls into C
are not interrupted: what they take is added to where they were called from. What other threads take is added to where
the first thread waits.
"""

from __future__ import annotations

import json
import runpy
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY = 0.005  # seconds of processor time
START = "start of Python"


class Samples:
    """Seconds of processor time by stack: ``file:function`` from the outermost to the innermost, one a line."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter({START: time.process_time()})
        self._until = time.process_time()

    def take(self, _: int, frame: FrameType | None) -> None:
        """A handler of SIGPROF: what was spent since the last time belongs to ``frame``."""
        now = time.process_time()
        stack = []
        while frame is not None:
            stack.append(f"{frame.f_code.co_filename}:{frame.f_code.co_name}")
            frame = frame.f_back
        self.seconds["\n".join(reversed(stack))] += now - self._until
        self._until = now


def main() -> None:
    file, *command = sys.argv[1:]
    samples = Samples()
    signal.signal(signal.SIGPROF, samples.take)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    sys.argv = ["hf-unlearnable", *command]
    try:
        runpy.run_module("hf_unlearnable", run_name="__main__")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(file).write_text(json.dumps(samples.seconds))


if __name__ == "__main__":
    main()
