"""A loaded agent acts by its steady averages, as evaluation during training did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from agent import checkpoint, load_agent
from agent.agent import Agent
from agent.controller import Controller
from configs.load import dump_yaml
from configs.schema import Config
from envs.spec import EnvSpec, Observation

NO_VECTOR = np.zeros(0, np.float32)


def test_loaded_agent_acts_by_its_steady_averages(
    env_spec: EnvSpec, tiny_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = tiny_config(planner={"control": "policy"})
    torch.manual_seed(0)
    agent = Agent(env_spec, config, torch.device("cpu"))
    with torch.no_grad():  # as if the networks had been elsewhere for a while
        for average in agent.steady.averages.parameters():
            average.add_(0.3 * torch.randn_like(average))
    state = {"env_spec": asdict(env_spec), "progress": {"frames": 8}, "agent": agent.state_dict()}
    checkpoint.save(checkpoint.numbered(tmp_path / "checkpoints", 8), state)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))

    obs = np.random.default_rng(0).integers(0, 256, env_spec.obs_shape, dtype=np.uint8)

    def action() -> np.ndarray:
        return Controller(agent, 1, torch.Generator()).act({0: Observation(obs, NO_VECTOR)})[0]

    learning = action()
    with agent.steady.acting():
        steady = action()
    loaded = load_agent(tmp_path)
    np.testing.assert_array_equal(loaded.act(obs), steady)
    assert np.abs(steady - learning).max() > 1e-3, "there is a choice"
    for name, network in {
        "encoder": loaded.agent.model.key_encoder,
        "model": loaded.agent.model.averaged,
        "critics": loaded.agent.actor_critic.target_critics,
    }.items():
        expected = dict(agent.steady.averages[name].state_dict())
        torch.testing.assert_close(dict(network.state_dict()), expected, rtol=0, atol=0)
