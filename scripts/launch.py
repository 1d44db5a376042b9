"""What must be set before the process starts.

glibc reads its allocator settings once, when it is loaded, and by default returns large buffers to the
system after every use: training then spends a quarter of its time on page faults. The launcher puts
the settings into the environment and starts the same command line again in the same process.
"""

from __future__ import annotations

import os
import sys

# Bytes. Buffers below the threshold come from the heap, which grows in steps of the pad and keeps its memory.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(1 << 27),
}


def restart_with_allocator() -> None:
    """Replace this process by one with the allocator settings; returns where they are set or unknown.

    Values that the user has set are kept. The new process finds all of them set, so this happens once.
    """
    missing = {name: value for name, value in ALLOCATOR.items() if name not in os.environ}
    if sys.platform != "linux" or not missing:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    # orig_argv also holds the interpreter's own options, and `-m module` as it was typed.
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **missing})
