from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import submitit  # noqa: F401 (it sets up logging anew, which closes the stream of absl's handler, pytest's own)
import torch

from configs.schema import Config
from envs.rendering import RenderingUnavailableError, probe_backend, select_backend
from envs.spec import EnvSpec
from world_model.batch import Batch

# Small tensors and few cores: more threads cost more than they bring, here and in processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

_RENDERING = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the rendering backend before any test imports MuJoCo."""
    try:
        select_backend()
    except RenderingUnavailableError as error:
        if os.environ.get("CI"):
            raise pytest.UsageError(str(error)) from error
        config.stash[_RENDERING] = str(error)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    missing = {} if torch.cuda.is_available() else {"gpu": "needs CUDA"}
    if _RENDERING in config.stash:
        missing["gl"] = config.stash[_RENDERING]
    for item in items:
        for marker, reason in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def env_spec() -> EnvSpec:
    """A task that exists on paper only: small observations, two actions, episodes that may terminate."""
    return EnvSpec(
        task="paper",
        frame_shape=(3, 32, 32),
        stack=3,
        action_dim=2,
        action_repeat=1,
        episode_frames=50,
        can_terminate=True,
        physics_dim=2,
        look="fast",
        proprio_dim=5,
    )


@pytest.fixture
def tiny_config() -> Callable[..., Config]:
    """Makes configurations of tiny networks; options are given as `world_model={"horizon": 2}, frames=9`."""
    tiny: dict[str, Any] = {
        "world_model": {
            "encoder": {"channels": 4, "shift_padding": 2},
            "latent_dim": 16,
            "simnorm_group": 4,
            "hidden_dim": 16,
            "projection_dim": 8,
            "horizon": 3,
            "bins": 21,
        },
        "actor_critic": {"imagination_after_updates": 3},
        "planner": {"horizon": 2, "samples": 8, "iterations": 2},
        "replay": {"capacity": 1000},
        "training": {"batch_size": 8},
        "logging": {"tensorboard": False, "progress": False},
        "size": 32,
    }

    def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
        groups = {
            name: merged(base.get(name, {}), value) for name, value in over.items() if isinstance(value, dict)
        }
        return base | over | groups

    return lambda **options: Config.model_validate(merged(tiny, options))


@pytest.fixture
def make_batch() -> Callable[..., Batch]:
    """Makes batches of noise; rows 2i and 2i + 1 come from one episode, 20 decisions apart."""

    def make(env_spec: EnvSpec, *, horizon: int = 3, rows: int = 8, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        shape = (rows, horizon + env_spec.stack, *env_spec.frame_shape)
        return Batch(
            frames=torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator),
            # of a generator of its own, so that what follows is the same for vectors of any size
            proprio=torch.randn(
                rows, horizon + 1, env_spec.proprio_dim, generator=torch.Generator().manual_seed(seed + 1)
            ),
            previous_action=2 * torch.rand(rows, env_spec.action_dim, generator=generator) - 1,
            action=2 * torch.rand(rows, horizon, env_spec.action_dim, generator=generator) - 1,
            reward=torch.rand(rows, horizon, generator=generator),
            terminated=torch.zeros(rows, horizon, dtype=torch.bool),
            episode=torch.arange(rows) // 2,
            time=torch.arange(rows) % 2 * 20,
        )

    return make


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Callable[[], list[str]]]]:
    """Makes believe that each backend, given as a shell command, does this here; returns what was tried."""

    def make(**backends: str) -> Callable[[], list[str]]:
        tried = tmp_path / "tried"
        tried.touch()
        cases = "\n".join(f"{name}) {command};;" for name, command in backends.items())
        script = tmp_path / "python"
        script.write_text(
            f'#!/bin/sh\necho "$MUJOCO_GL $PYOPENGL_PLATFORM" >> {tried}\ncase $MUJOCO_GL in\n{cases}\nesac\n'
        )
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        return lambda: tried.read_text().splitlines()

    probe_backend.cache_clear()
    with mock.patch.dict(os.environ):
        for variable in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY"):
            os.environ.pop(variable, None)
        yield make
    probe_backend.cache_clear()
