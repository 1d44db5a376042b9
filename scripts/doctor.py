"""`nearfar doctor`: what this machine has for drawing and learning, and how to mend what is missing.

Exit code 0 where `nearfar train`, started from the same shell, can draw frames and import torch, and 1 where
it cannot: what is wrong then is the machine, not the command line (which would be 2). Faults that only slow a
run down leave it at 0, so that `nearfar doctor && nearfar train` starts whatever can be started.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro

from configs.options import Options
from scripts import machine
from scripts.options import parse_flags

PACKAGES = (*machine.PACKAGES, "pyopengl", "glfw")


class DoctorOptions(Options):
    """What this machine has for drawing and learning, and how to mend what is missing."""

    as_json: Annotated[bool, tyro.conf.arg(name="json"), tyro.conf.FlagCreatePairsOff] = False
    """Print JSON alone."""


def main(arguments: Sequence[str]) -> int:
    """Examine the machine; see `nearfar doctor --help`.

    Returns:
        0 where frames can be drawn and torch can be imported, otherwise 1.
    """
    options = parse_flags(DoctorOptions, "nearfar doctor", arguments)
    found = examine()
    print(json.dumps(found, indent=2) if options.as_json else _as_text(found))
    return 0 if found["backend"] and found["gpu"]["importable"] else 1


def examine() -> dict[str, Any]:
    """Everything that is found, as JSON values.

    Returns:
        `backend`: what training would draw with, or None; `mujoco_gl`: what the user demands, or None;
        `renderers`: an `envs.diagnosis.RendererReport` each; `faults`: `fault` and `fix`, what stops or slows
        a run here and what mends it; the rest as in `scripts.machine`.
    """
    from scripts.faults import find_faults

    found: dict[str, Any] = {
        **_rendering(),
        "gpu": machine.gpu(),
        "versions": {"python": platform.python_version()} | machine.versions(PACKAGES),
        "mujoco_fits": machine.mujoco_fits(),
        "hardware": machine.hardware() | {"memory_limit_gib": machine.memory_limit_gib()},
        "disk": machine.disk(Path("runs")),
        "allocator": machine.allocator(),
    }
    return found | {"faults": [fault._asdict() for fault in find_faults(found)]}


def _rendering() -> dict[str, Any]:
    """Try every backend, and the user's choice if it is none of them."""
    from envs.diagnosis import examine_backend
    from envs.rendering import BACKENDS, chosen_backend, usual_backends

    chosen = chosen_backend()
    wanted = (chosen,) if chosen else usual_backends()
    reports = {name: examine_backend(name) for name in dict.fromkeys((*BACKENDS, *wanted))}
    return {
        "backend": next((name for name in wanted if reports[name].ok), None),
        "mujoco_gl": chosen or None,
        "renderers": [asdict(report) for report in reports.values()],
    }


def _as_text(found: dict[str, Any]) -> str:
    lines = ["rendering"]
    for report in found["renderers"]:
        lines += _renderer_lines(report, used=report["backend"] == found["backend"])
    lines += ["", *(f"{name:<10}{text}" for name, text in _rows(found)), ""]
    for fault in found["faults"]:
        lines += [f"fault: {fault['fault']}", f"  fix: {fault['fix']}"]
    return "\n".join([*lines, _verdict(found)])


def _verdict(found: dict[str, Any]) -> str:
    if not found["gpu"]["importable"]:
        return "training cannot start here"
    used = found["backend"]
    return f"training draws with {used}" if used else "training cannot draw frames here"


def _renderer_lines(report: dict[str, Any], *, used: bool) -> list[str]:
    if report["ok"]:
        where = "on the CPU" if report["software"] else "on a GPU"
        mark = "*" if used else " "
        return [f"{mark} {report['backend']:<8}{report['fps']:,.0f} frames/s {where}: {report['renderer']}"]
    lines = [f"  {report['backend']:<8}no frames: {report['error']}"]
    return lines + ([f"{'':10}to have it: {report['fix']}"] if report["fix"] else [])


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    gpu, hardware, disk = found["gpu"], found["hardware"], found["disk"]
    devices = [f"{each['name']}, {each['memory_gib']} GiB" for each in gpu["devices"]]
    limit = hardware["memory_limit_gib"]
    return [
        ("GPU", "; ".join(devices) or f"none for torch: {gpu['error']}"),
        ("driver", f"{gpu['driver'] or 'no NVIDIA driver'}; torch for CUDA {gpu['cuda'] or '(none)'}"),
        ("versions", ", ".join(f"{name} {number or 'absent'}" for name, number in found["versions"].items())),
        ("cores", f"{hardware['cores']} of {hardware['cpu']}"),
        ("memory", f"{hardware['memory_gib']} GiB" + (f", limited to {limit} GiB" if limit else "")),
        ("disk", f"{disk['free_gib']} GiB free for {disk['path']}"),
        ("allocator", "set for training" if found["allocator"]["active"] else "not set for training"),
    ]
