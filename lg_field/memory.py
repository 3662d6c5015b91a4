"""How much memory there is and was."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def available_bytes() -> int:
    """Memory that can be taken without swapping; where the system does not say, all there is."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def check_memory(needed: int, what: str, cure: str) -> None:
    """Raise ValueError before starting what would not fit.

    Args:
        needed: bytes.
        what: the work, for the message.
        cure: what to do instead.
    """
    free = available_bytes()
    if needed > free:
        raise ValueError(f"{what} needs about {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} are free: {cure}")
