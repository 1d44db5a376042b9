"""What stops or slows a run on this machine, and the command or action that mends it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from envs.diagnosis import SIMULATORS
from scripts.launch import ALLOCATOR

LOWEST_FREE_GIB = 2
"""A run of 100,000 frames keeps at most 1.2 GiB of them (64 px, no action repeat), and checkpoints."""

TORCH = "torch>=2.10"
"""What pip is asked for where there is none; as in pyproject.toml."""

_VENDOR_FILE = "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"
_VENDOR = '{"file_format_version": "1.0.0", "ICD": {"library_path": "libEGL_nvidia.so.0"}}'


class Fault(NamedTuple):
    """One thing that is wrong.

    Attributes:
        fault: what, in one line.
        fix: command or action that mends it.
    """

    fault: str
    fix: str


def find_faults(found: dict[str, Any]) -> list[Fault]:
    """Judge what was found; what stops a run comes before what slows it.

    Args:
        found: facts, as `scripts.doctor.examine` collects them.
    """
    return [
        *_of_torch(found),
        *_of_rendering(found),
        *_of_versions(found),
        *_of_disk(found),
        *_of_gpu(found),
        *_of_memory(found),
    ]


def _of_torch(found: dict[str, Any]) -> Iterator[Fault]:
    if found["gpu"]["importable"]:
        return
    release = str(found["versions"]["torch"] or "").partition("+")[0]
    fix = f"pip install --force-reinstall torch=={release}" if release else f"pip install '{TORCH}'"
    yield Fault(found["gpu"]["error"].partition("\n")[0], fix)


def _of_rendering(found: dict[str, Any]) -> Iterator[Fault]:
    if found["backend"]:
        return
    drawing = [report["backend"] for report in found["renderers"] if report["ok"]]
    if drawing:
        chosen = f"set to {found['mujoco_gl']}" if found["mujoco_gl"] else "not set"
        yield Fault(f"{drawing[0]} draws frames, but MUJOCO_GL is {chosen}", f"export MUJOCO_GL={drawing[0]}")
        return
    for report in found["renderers"]:
        if report["fix"]:
            yield Fault(f"no backend draws frames; {report['backend']}: {report['error']}", report["fix"])


def _of_versions(found: dict[str, Any]) -> Iterator[Fault]:
    if not found["mujoco_fits"]:
        mujoco, dm_control = found["versions"]["mujoco"], found["versions"]["dm-control"]
        yield Fault(f"mujoco {mujoco} and dm-control {dm_control} do not work together", SIMULATORS)


def _of_disk(found: dict[str, Any]) -> Iterator[Fault]:
    disk = found["disk"]
    if not disk["writable"]:
        yield Fault(f"{disk['path']} cannot be written here", "give --out a directory that you may write to")
    if disk["free_gib"] < LOWEST_FREE_GIB:
        yield Fault(
            f"{disk['free_gib']} GiB are free for {disk['path']}",
            f"free {LOWEST_FREE_GIB} GiB, or give --out a directory on another disk",
        )


def _of_gpu(found: dict[str, Any]) -> Iterator[Fault]:
    gpu = found["gpu"]
    if gpu["installed"] and not gpu["devices"] and gpu["importable"]:
        yield Fault(f"torch cannot use {gpu['installed'][0]}: {gpu['error']}", _gpu_fix(found))
    drawn_with = next((each for each in found["renderers"] if each["backend"] == found["backend"]), None)
    if (gpu["installed"] or gpu["devices"]) and drawn_with and drawn_with["software"]:
        yield Fault(
            f"{drawn_with['renderer']} draws on the CPU beside a GPU",
            f"echo '{_VENDOR}' > {_VENDOR_FILE} (in a container, start it with "
            "NVIDIA_DRIVER_CAPABILITIES=all, which brings libEGL_nvidia.so.0)",
        )


def _gpu_fix(found: dict[str, Any]) -> str:
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None:
        return "unset CUDA_VISIBLE_DEVICES"
    if found["gpu"]["cuda"] is None:
        release = str(found["versions"]["torch"]).partition("+")[0]
        return f"pip install --force-reinstall torch=={release} (a build with CUDA)"
    return "install a newer NVIDIA driver, or a build of torch for the CUDA version that nvidia-smi names"


def _of_memory(found: dict[str, Any]) -> Iterator[Fault]:
    allocator = found["allocator"]
    if allocator["active"] or allocator["libc"] != "glibc":
        return
    other = [name for name, value in allocator["settings"].items() if value not in (None, ALLOCATOR[name])]
    yield Fault(
        "without the launcher's allocator settings, a quarter of training goes into page faults",
        f"unset {' '.join(other)}" if other else "start it as `nearfar`, or as `python -m scripts.cli`",
    )
