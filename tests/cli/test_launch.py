from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.launch import ALLOCATOR

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="settings of glibc")

REPORT = """
import json, os, resource, sys
from scripts.launch import ALLOCATOR, restart_with_allocator
if "restart" in sys.argv:
    restart_with_allocator()
bytearray(1 << 28)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    bytearray(1 << 28)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
settings = {name: os.environ.get(name) for name in ALLOCATOR}
found = {"argv": sys.argv, "settings": settings, "faults": faults, "dev": sys.flags.dev_mode}
print(json.dumps(found | {"pid": os.getpid()}))
"""


def report(*arguments: str, **environment: str) -> dict[str, Any]:
    clean = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", REPORT, *arguments],
        cwd=ROOT,
        env=clean | {"PYTHONMALLOC": "malloc"} | environment,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()  # or a process that restarts for ever would be waited for
    assert process.returncode == 0
    return {**json.loads(output), "same_pid": json.loads(output)["pid"] == process.pid}


def test_restart_sets_the_allocator_and_keeps_the_command_line() -> None:
    found = report("restart", "two words", "--flag=ü")
    assert found["settings"] == ALLOCATOR
    assert found["argv"] == ["-c", "restart", "two words", "--flag=ü"]
    assert found["dev"], "options of the interpreter are kept"
    assert found["same_pid"], "signals reach the process that was started"


def test_values_of_the_user_are_kept() -> None:
    found = report("restart", MALLOC_TOP_PAD_="4096")
    assert found["settings"] == ALLOCATOR | {"MALLOC_TOP_PAD_": "4096"}


def test_memory_is_not_returned_after_every_use() -> None:
    """268 MB, more than the pad, are 65,536 pages: without the settings each use costs as many faults."""
    assert report("plain")["faults"] > 150_000
    assert report("restart")["faults"] < 20_000
