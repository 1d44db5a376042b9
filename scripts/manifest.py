"""What a run was made with and where: enough to judge its numbers and to repeat it."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from agent.actor_critic import discount_of
from configs.load import ConfigError
from configs.resuming import differences
from configs.schema import Config
from envs.rendering import Backend
from envs.spec import EnvSpec
from scripts.machine import hardware, versions


def make_manifest(
    config: Config, env_spec: EnvSpec, device: torch.device, backend: Backend | None
) -> dict[str, Any]:
    """Collect the facts of a run as JSON values.

    Args:
        config: the resolved configuration.
        env_spec: the task as it was made, with the action repeat that was used.
        device: where the networks run.
        backend: what draws frames, if anything does.
    """
    return {
        "command": ["nearfar", *sys.argv[1:]],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": config.task,
        "obs": config.obs,
        "look": config.look,
        "distract": config.distract,
        "size": config.size,
        "seed": config.seed,
        "action_repeat": env_spec.action_repeat,
        "discount": discount_of(config.actor_critic, env_spec),
        "preset": config.preset,
        "rendering": {"backend": backend and backend.name, "renderer": backend and backend.renderer},
        "python": platform.python_version(),
        "versions": versions(),
        "git": _git_state(Path(__file__).parent),
        "hardware": hardware() | {"gpu": _gpu_name(device)},
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def with_earlier(manifest: dict[str, Any], path: Path, *, goes_on: bool) -> dict[str, Any]:
    """The manifest of a run, with those of the processes that were in its directory before under `earlier`.

    What the run started from is said by each of those that went on with it.

    Args:
        manifest: facts about this process.
        path: `manifest.json` of the run; need not exist.
        goes_on: whether what they learnt goes on; else the run starts now, as this process says.

    Raises:
        ConfigError: it exists and cannot be read, or is no manifest.
    """
    if not path.exists():
        return manifest
    try:
        last = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(last, dict) or not {"versions", "rendering", "device"} <= last.keys():
            raise ValueError("it lacks versions, rendering or device")
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): remove it, and the run goes on") from error
    start = {name: last[name] for name in ("encoder", "from") if goes_on and name in last}
    return start | manifest | {"earlier": [*last.pop("earlier", []), last]}


def changes_since(manifest: dict[str, Any]) -> list[str]:
    """What the last process of a run had and this one has not, among the things that change its numbers."""
    if not manifest.get("earlier"):
        return []
    last, now = (
        each["versions"] | {"renderer": each["rendering"]["renderer"], "device": each["device"]}
        for each in (manifest["earlier"][-1], manifest)
    )
    return differences(last, now)


def _git_state(source: Path) -> dict[str, Any] | None:
    """Commit of the checkout around `source`, and whether tracked files differ; None outside of one."""
    try:
        commit = _git(source, "rev-parse", "HEAD")
        changes = _git(source, "status", "--porcelain", "--untracked-files=no")
        return {"commit": commit, "modified": bool(changes)}
    except (OSError, subprocess.SubprocessError):  # no git, no checkout, or one that takes too long
        return None


def _git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def _gpu_name(device: torch.device) -> str | None:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None
