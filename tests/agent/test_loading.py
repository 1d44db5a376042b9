from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agent import checkpoint, load_agent
from agent.agent import Agent
from agent.checkpoint import CheckpointError
from agent.loading import LoadedAgent, read_encoder, read_predecessor
from configs.load import dump_yaml
from configs.schema import Config
from envs.spec import EnvSpec, Observation


@pytest.fixture
def agent(env_spec: EnvSpec, tiny_config: Callable[..., Config]) -> Agent:
    torch.manual_seed(0)
    return Agent(env_spec, tiny_config(), torch.device("cpu"))


@pytest.fixture
def run(agent: Agent, tmp_path: Path) -> Path:
    """A run directory with two checkpoints; the newest holds `agent`."""
    (tmp_path / "config.yaml").write_text(dump_yaml(agent.config))
    for frames in (100, 200):
        state = {
            "env_spec": asdict(agent.env_spec),
            "progress": {"frames": frames},
            "agent": agent.state_dict(),
        }
        if frames == 100:
            other = Agent(agent.env_spec, agent.config, torch.device("cpu"))
            state["agent"] = other.state_dict()
        checkpoint.save(checkpoint.numbered(tmp_path / "checkpoints", frames), state)
    return tmp_path


@pytest.fixture
def obs(env_spec: EnvSpec) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, env_spec.obs_shape, dtype=np.uint8)


def test_newest_checkpoint_of_a_run(run: Path, agent: Agent) -> None:
    loaded = load_agent(run)
    assert loaded.frames == 200
    assert loaded.agent.env_spec == agent.env_spec
    for name in ("model", "actor_critic"):
        torch.testing.assert_close(loaded.agent.state_dict()[name], agent.state_dict()[name], rtol=0, atol=0)


def test_one_checkpoint_file(run: Path) -> None:
    assert load_agent(checkpoint.numbered(run / "checkpoints", 100)).frames == 100


def test_actions_are_the_same_each_time(run: Path, obs: np.ndarray) -> None:
    first, second = load_agent(run), load_agent(str(run))
    for _ in range(3):
        action = first.act(obs)
        assert action.dtype == np.float32
        assert action.shape == (2,)
        assert np.abs(action).max() <= 1
        np.testing.assert_array_equal(action, second.act(obs))


def test_exploration_is_asked_for(run: Path, obs: np.ndarray) -> None:
    still, noisy = load_agent(run), load_agent(run)
    assert not np.array_equal(still.act(obs), noisy.act(obs, deterministic=False))


def test_reset_forgets_plan_and_last_action(run: Path, obs: np.ndarray) -> None:
    loaded = load_agent(run)
    loaded.act(obs)
    loaded._controller.memory.fill_(0.3)  # as if the last plan had been preferred to the policy
    loaded.reset()
    assert loaded._controller.memory.abs().max() == 0
    assert loaded._controller.last_action.abs().max() == 0


def test_observations_must_fit(run: Path, obs: np.ndarray) -> None:
    loaded = load_agent(run)
    with pytest.raises(ValueError, match=r"expected uint8 \(9, 32, 32\), found uint8 \(3, 32, 32\)"):
        loaded.act(obs[:3])
    with pytest.raises(ValueError, match="found float64"):
        loaded.act(obs / 255)


@pytest.mark.parametrize("kind", ["state", "pixels+state"])
def test_who_sees_the_vector_is_told_of_it(
    kind: str, env_spec: EnvSpec, tiny_config: Callable[..., Config], obs: np.ndarray
) -> None:
    torch.manual_seed(0)
    loaded = LoadedAgent(Agent(env_spec, tiny_config(obs=kind), torch.device("cpu")), frames=0)
    vector = np.zeros(5, np.float32)
    pixels = obs if "pixels" in kind else np.zeros((9, 0, 0), np.uint8)
    assert loaded.act(pixels, proprio=vector).shape == (2,)
    with pytest.raises(ValueError, match=r"proprio: expected float32 \(5,\), found nothing"):
        loaded.act(obs)
    with pytest.raises(ValueError, match=r"proprio: expected float32 \(5,\), found float64 \(5,\)"):
        loaded.act(obs, proprio=vector.astype(np.float64))
    states = [loaded._controller._encode({0: Observation(obs, each)}) for each in (vector, vector + 1)]
    assert not torch.equal(*states)


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_agent(tmp_path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"world_model": {"hidden_dim": 32}}, "size mismatch"),
        ({"actor_critic": {"critics": 3}}, "size mismatch"),
        ({"obs": "state"}, "Missing key"),
        ({"world_model": {"objective": "predictive"}}, "Unexpected key"),
        ({"curiosity": {"bonus": "knn"}}, "'explorer'"),
    ],
)
def test_weights_that_are_not_those_of_the_configuration(
    run: Path, tiny_config: Callable[..., Config], options: dict[str, Any], reason: str
) -> None:
    (run / "config.yaml").write_text(dump_yaml(tiny_config(**options)))
    with pytest.raises(CheckpointError, match=r"put the config\.yaml of that run back") as caught:
        load_agent(run)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("lacking", ["env_spec", "agent", "progress", "all"])
def test_a_checkpoint_that_lacks_something(run: Path, lacking: str) -> None:
    path = checkpoint.numbered(run / "checkpoints", 200)
    state = checkpoint.load(path)
    state.pop(lacking, None)
    checkpoint.save(path, {} if lacking == "all" else state)
    with pytest.raises(CheckpointError, match=r"000000200\.safetensors holds no agent as .*config\.yaml"):
        load_agent(run)


@pytest.mark.parametrize(
    ("read", "given", "is_over"),
    [
        (load_agent, "directory", False),
        (load_agent, "directory", True),
        (load_agent, "checkpoint", False),
        (load_agent, "before its first checkpoint", False),
        (read_predecessor, "directory", True),
        (read_encoder, "directory", False),
        (read_encoder, "before its first checkpoint", False),
    ],
)
def test_a_pretraining_is_no_run(
    tmp_path: Path, read: Callable[[Path], object], given: str, is_over: bool
) -> None:
    (tmp_path / "pretrain.yaml").touch()
    path = checkpoint.numbered(tmp_path / "checkpoints", 100)
    if given != "before its first checkpoint":
        checkpoint.save(path, {})
    if is_over:
        (tmp_path / "encoder.safetensors").touch()
    with pytest.raises(CheckpointError) as caught:
        read(path if given == "checkpoint" else tmp_path)
    first = "" if is_over else "run nearfar pretrain to its end, then "
    remedy = f"which has no agent: {first}give nearfar train --encoder {tmp_path}"
    assert str(caught.value).endswith(f"is of a pretraining, {remedy}")
