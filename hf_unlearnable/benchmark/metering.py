"""What a piece of work took: time, memory, on which machine."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from hf_unlearnable.models.surrogate import load_transformers
from hf_unlearnable.version import versions

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

COSTS = "seconds", "processor_seconds", "peak_memory", "device_memory"  # None where a part of the work was not metered


class Meter:
    """Started when it is made; ``read`` tells what it took until then, as ``Record`` has it."""

    def __init__(self) -> None:
        load_transformers()
        self._started, self._processor = time.monotonic(), time.process_time()
        with suppress(OSError):  # Linux forgets the process's highest then; else the highest is that of its whole life
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, Any]:
        """Time, memory, machine and versions."""
        return {
            "seconds": round(time.monotonic() - self._started, 2),
            "processor_seconds": round(time.process_time() - self._processor, 2),
            "peak_memory": _peak(),
            "device_memory": int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None,
            "machine": machine(),
            "versions": versions(),
        }


def machine() -> str:
    """The GPU, or the processor and how many threads of it are used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{model}, {torch.get_num_threads()} thread(s)"


def work_alone() -> int:
    """Make this process one that knows of no others, whoever started it, and tell its number among them.

    Cells and fits are each the work of one process, so that their number changes no figure; the processes share them
    by claims on the disk. To be called before anything of Accelerate is made.
    """
    rank, local = int(os.environ.get("RANK", "0")), os.environ.get("LOCAL_RANK", "0")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name, None)
    if torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "false").lower() != "true":
        torch.cuda.set_device(int(local) % torch.cuda.device_count())
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", f"cuda:{torch.cuda.current_device()}")
    return rank


def _peak() -> int | None:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    if resource is None:
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)
