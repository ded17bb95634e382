"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import os
import sys

# Names and values of <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

LARGEST_MMAP_THRESHOLD = 32 << 20  # bytes; glibc takes no more

NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let the process keep what it frees instead of handing it back to the kernel, where that can be told (glibc).

    Every batch frees its activations, a few MiB each, and asks for as much again: by default glibc returns them, and
    the kernel zeroes each page anew. Kept, they cost a quarter of the page faults, and looking at images through a
    network a third less time (``examples/benchmarks/NOTES.md``). Single blocks above 32 MiB go back as before. It is a
    setting of the whole process, so that only the commands make it, not the library; ``MALLOC_TRIM_THRESHOLD_`` and its
    like in the environment are left to have their way.

    Returns:
        Whether it was set.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return all(mallopt(*pair) == 1 for pair in ((M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD), (M_TRIM_THRESHOLD, NEVER)))
