"""What a machine has: versions, processor, memory, disk, GPU. Rendering is in `envs.diagnosis`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from scripts.launch import ALLOCATOR

PACKAGES = ("nearfar", "torch", "numpy", "dm-control", "mujoco", "gymnasium", "pydantic", "safetensors")
FIRST_MUJOCO_TOO_NEW = (4,)


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str | None]:
    """Installed versions; None for what is not installed."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return None


def mujoco_fits() -> bool:
    """Whether MuJoCo's version is one that the installed dm-control works with.

    dm-control names the lowest one, and no highest: from MuJoCo 4 on its models cannot be loaded.
    """
    found = versions(("mujoco", "dm-control"))
    if found["mujoco"] is None or found["dm-control"] is None:
        return False
    needs = [re.match(r"mujoco *\(?>= *([\d.]+)", text) for text in metadata.requires("dm-control") or ()]
    lowest = max((_numbers(match[1]) for match in needs if match), default=())
    return lowest <= _numbers(found["mujoco"]) < FIRST_MUJOCO_TOO_NEW


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def hardware() -> dict[str, Any]:
    """System, processor, cores that this process may use, and memory in GiB."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _gib(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    }


def _cpu_model() -> str:
    """Model name; Linux tells it in /proc only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def memory_limit_gib(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> float | None:
    """What a container may use, in GiB; None where nothing limits it, or it is not known (cgroup 1)."""
    try:
        return _gib(int(limit.read_text(encoding="ascii")))
    except (OSError, ValueError):  # ValueError: the file says "max"
        return None


def free_memory_gib(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Memory that new processes may take, in GiB: all there is where the system does not tell."""
    whole = hardware()["memory_gib"]
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        free_kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return min(whole, memory_limit_gib() or whole)
    return min(_gib(free_kib * 1024), memory_limit_gib() or whole)


def visible_gpus() -> list[str]:
    """What `CUDA_VISIBLE_DEVICES` calls the GPUs that torch can use; no context is made on them."""
    import torch

    chosen = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return chosen[:count] if chosen else [str(index) for index in range(count)]


def disk(path: Path) -> dict[str, Any]:
    """Where `path` is or would be made: free space in GiB, and whether this user may write there."""
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    return {
        "path": str(path),
        "free_gib": _gib(shutil.disk_usage(existing).free),
        "writable": os.access(existing, os.W_OK),
    }


def allocator() -> dict[str, Any]:
    """The settings of `scripts.launch` as they are in this process, and whether they have their effect."""
    settings = {name: os.environ.get(name) for name in ALLOCATOR}
    libc = platform.libc_ver()[0]
    return {"active": settings == ALLOCATOR and libc == "glibc", "libc": libc, "settings": settings}


def gpu() -> dict[str, Any]:
    """What torch sees, beside what the NVIDIA driver says.

    Returns:
        `devices` (name, memory_gib, capability each; empty where torch can use none, and then `error` says
        why), `cuda` (the version that torch was built for; None: a build without), `driver` (its version),
        `installed` (names of the GPUs that the driver knows), and `importable`, whether torch is.
    """
    driver, installed = _nvidia_smi()
    found: dict[str, Any] = {"devices": [], "error": None, "cuda": None, "driver": driver}
    found |= {"installed": installed, "importable": True}
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that torch needs
        return found | {"error": f"torch cannot be imported: {error}", "importable": False}
    found["cuda"] = torch.version.cuda
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:  # AssertionError: a build without CUDA
        return found | {"error": str(error).partition("\n")[0]}
    properties = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found["devices"] = [
        {"name": each.name, "memory_gib": _gib(each.total_memory), "capability": f"{each.major}.{each.minor}"}
        for each in properties
    ]
    return found


def _nvidia_smi() -> tuple[str | None, list[str]]:
    """Version of the NVIDIA driver and names of its GPUs, as its own tool says."""
    command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None, []
    rows = [line.split(", ", 1) for line in done.stdout.splitlines() if ", " in line]
    return (rows[0][0], [name for _, name in rows]) if rows else (None, [])


def _gib(size: int) -> float:
    return round(size / 2**30, 1)
