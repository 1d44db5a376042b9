"""Trained agents from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from agent import checkpoint
from agent.agent import Agent, Controller
from agent.checkpoint import CheckpointError
from configs.load import load_config
from envs.spec import EnvSpec


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

    def act(self, obs: np.ndarray, *, deterministic: bool = True) -> np.ndarray:
        """Action for an observation that follows the one of the call before; see `reset`.

        Args:
            obs: stacked frames, uint8 (3 * stack, size, size).
            deterministic: without exploration noise.

        Returns:
            float32 (A,) in [-1, 1].
        """
        expected = self.agent.env_spec.obs_shape
        if obs.shape != expected or obs.dtype != np.uint8:
            raise ValueError(f"obs: expected uint8 {expected}, found {obs.dtype} {obs.shape}")
        noise_std = 0.0 if deterministic else self.agent.config.training.exploration_final_std
        return self._controller.act({0: obs}, noise_std)[0]

    def reset(self) -> None:
        """Forget the last action and the plan that started from it: call it at an episode's start."""
        self._controller.reset(0)


def load_agent(run: str | Path, *, device: str | torch.device = "cpu") -> LoadedAgent:
    """Load a trained agent, as evaluation saw it: by its steady averages.

    Args:
        run: run directory (its newest checkpoint is taken), or a checkpoint file inside one.
        device: where the networks run.

    Raises:
        CheckpointError: no checkpoint there, or one that cannot be read.
        ConfigError: the run's `config.yaml` is damaged.
    """
    run = Path(run)
    path = run if run.is_file() else checkpoint.latest(run / "checkpoints")
    if path is None:
        raise CheckpointError(f"{run} holds no checkpoint: train there first, or name another run directory")
    state = checkpoint.load(path)
    config = load_config(path.parent.parent / "config.yaml")
    with torch.random.fork_rng(devices=[]):  # the weights drawn here are replaced
        agent = Agent(EnvSpec(**state["env_spec"]), config, torch.device(device))
    agent.load_state_dict(state["agent"], optimizers=False)
    agent.steady.swap()
    return LoadedAgent(agent, state["progress"]["frames"])
