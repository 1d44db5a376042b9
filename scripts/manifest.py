"""What a run was made with and where: enough to judge its numbers and to repeat it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from agent.actor_critic import discount_of
from configs.schema import Config
from envs.rendering import Backend
from envs.spec import EnvSpec

PACKAGES = ("nearfar", "torch", "numpy", "dm-control", "mujoco", "gymnasium", "pydantic", "safetensors")


def make_manifest(
    config: Config, env_spec: EnvSpec, device: torch.device, backend: Backend
) -> dict[str, Any]:
    """Collect the facts of a run as JSON values.

    Args:
        config: the resolved configuration.
        env_spec: the task as it was made, with the action repeat that was used.
        device: where the networks run.
        backend: what draws the frames.
    """
    return {
        "command": ["nearfar", *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": config.task,
        "look": config.look,
        "distract": config.distract,
        "size": config.size,
        "seed": config.seed,
        "action_repeat": env_spec.action_repeat,
        "discount": discount_of(config.actor_critic, env_spec),
        "preset": config.preset,
        "rendering": {"backend": backend.name, "renderer": backend.renderer},
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "git": _git_state(Path(__file__).parent),
        "hardware": _hardware(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return None


def _git_state(source: Path) -> dict[str, Any] | None:
    """Commit of the checkout around `source`, and whether tracked files differ; None outside of one."""
    try:
        commit = _git(source, "rev-parse", "HEAD")
        changes = _git(source, "status", "--porcelain", "--untracked-files=no")
        return {"commit": commit, "modified": bool(changes)}
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def _hardware(device: torch.device) -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _cpu_model() -> str:
    """Model name; Linux tells it in /proc only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
