"""Trained agents from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from agent import checkpoint
from agent.agent import Agent
from agent.checkpoint import CheckpointError
from agent.controller import Controller
from agent.curious import make_agent
from configs.load import load_config
from envs.spec import EnvSpec, Observation


class LoadedAgent:
    """A trained agent for one environment.

    Attributes:
        agent: networks and configuration.
        frames: environment frames it was trained for.
    """

    def __init__(self, agent: Agent, frames: int):
        """Act with `agent`."""
        self.agent = agent
        self.frames = frames
        generator = torch.Generator(agent.device).manual_seed(agent.config.seed)
        self._controller = Controller(agent, 1, generator)

    def act(
        self, obs: np.ndarray, *, proprio: np.ndarray | None = None, deterministic: bool = True
    ) -> np.ndarray:
        """Action for an observation that follows the one of the call before; see `reset`.

        Args:
            obs: stacked frames, uint8 (3 * stack, size, size); of any size where the agent sees no pixels.
            proprio: `info["proprio"]` of the environment, float32 (D,), for an agent that was trained with
                `--obs state` or `pixels+state`.
            deterministic: without exploration noise.

        Returns:
            float32 (A,) in [-1, 1].

        Raises:
            ValueError: what the agent looks at is missing, or has another type or shape.
        """
        spec, config = self.agent.env_spec, self.agent.config
        if config.sees_pixels:
            _check("obs", obs, np.uint8, spec.obs_shape)
        if config.sees_proprio:
            _check("proprio", proprio, np.float32, (spec.proprio_dim,))
        noise_std = 0.0 if deterministic else config.training.exploration_final_std
        vector = np.zeros(0, np.float32) if proprio is None else proprio
        return self._controller.act({0: Observation(obs, vector)}, noise_std)[0]

    def reset(self) -> None:
        """Forget the last action and the plan that started from it: call it at an episode's start."""
        self._controller.reset(0)


def _check(name: str, found: np.ndarray | None, dtype: type, shape: tuple[int, ...]) -> None:
    if found is None or found.shape != shape or found.dtype != dtype:
        what = "nothing" if found is None else f"{found.dtype} {found.shape}"
        raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, found {what}")


def find_checkpoint(run: str | Path) -> Path:
    """The newest checkpoint of a run directory, or the checkpoint file that is named.

    Raises:
        CheckpointError: there is none.
    """
    run = Path(run)
    path = run if run.is_file() else checkpoint.latest(run / "checkpoints")
    if path is None:
        raise CheckpointError(f"{run} holds no checkpoint: train there first, or name another run directory")
    return path


def load_agent(run: str | Path, *, device: str | torch.device = "cpu") -> LoadedAgent:
    """Load a trained agent, as evaluation saw it: by its steady averages.

    Args:
        run: run directory (its newest checkpoint is taken), or a checkpoint file inside one.
        device: where the networks run.

    Raises:
        CheckpointError: no checkpoint there, or one that cannot be read.
        ConfigError: the run's `config.yaml` is damaged.
    """
    path = find_checkpoint(run)
    state = checkpoint.load(path)
    config = load_config(path.parent.parent / "config.yaml")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        agent = make_agent(EnvSpec(**state["env_spec"]), config, torch.device(device))
    agent.load_state_dict(state["agent"], optimizers=False)
    agent.steady.swap()
    return LoadedAgent(agent, state["progress"]["frames"])
