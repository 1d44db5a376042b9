"""Agents that start from an encoder: the weights they hold, what learns, and going on bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agent import checkpoint, load_agent
from agent.agent import Agent
from agent.checkpoint import CheckpointError
from agent.loading import encoder_of_run, read_encoder
from agent.loop import Loop
from agent.seeding import Streams
from agent.warm_start import check_encoder_fits, encoder_learns, start_from_encoder
from configs.load import ConfigError, save_config
from configs.schema import Config
from envs.counting import CountingEnv
from envs.spec import EnvSpec
from envs.vector import SerialPool
from tests.objectives import EVERY_OBJECTIVE
from world_model.batch import Batch
from world_model.encoder import Encoder, EncoderFacts, perceived
from world_model.encoder_file import EncoderCard, EncoderFileError, save_encoder

CPU = torch.device("cpu")

MakeConfig = Callable[..., Config]
MakeBatch = Callable[..., Batch]


class Never:
    requested = False


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def copies(agent: Agent) -> dict[str, Tensor]:
    modules = {
        "online": agent.model.encoder,
        "key": agent.model.key_encoder,
        "steady": agent.steady.averages["encoder"],
    }
    return {name: weights(module) for name, module in modules.items()}


def make_encoder(env_spec: EnvSpec, config: Config) -> Encoder:
    torch.manual_seed(77)
    return Encoder(env_spec, config.world_model, config.obs)


def started(env_spec: EnvSpec, config: Config) -> tuple[Agent, Tensor]:
    """An agent, and the weights that it started from."""
    encoder = make_encoder(env_spec, config)
    torch.manual_seed(0)
    agent = Agent(env_spec, config, CPU)
    start_from_encoder(agent, encoder)
    agent.learns_encoder = encoder_learns(config, 0)
    return agent, weights(encoder)


@pytest.mark.parametrize("obs", ["pixels", "pixels+state"])
def test_every_copy_starts_from_the_encoder(env_spec: EnvSpec, tiny_config: MakeConfig, obs: str) -> None:
    agent, start = started(env_spec, tiny_config(obs=obs, encoder="file"))
    assert all(torch.equal(copy, start) for copy in copies(agent).values())
    assert not agent.optimizers["model"].state, "optimisers are fresh"
    assert agent.model.encoder.linear.weight.data_ptr() != agent.model.key_encoder.linear.weight.data_ptr()


@pytest.mark.parametrize("world_model", EVERY_OBJECTIVE, ids=str)
def test_a_frozen_encoder_stays_and_the_rest_learns(
    env_spec: EnvSpec, tiny_config: MakeConfig, make_batch: MakeBatch, world_model: dict[str, Any]
) -> None:
    config = tiny_config(encoder="file", encoder_mode="frozen", world_model=world_model)
    agent, start = started(env_spec, config)
    others = {"dynamics": agent.model.dynamics, "policy": agent.actor_critic.policy}
    before = {name: weights(module) for name, module in others.items()}
    for seed in range(3):
        agent.update(make_batch(env_spec, seed=seed), torch.Generator().manual_seed(seed))
        agent.steady.follow()
    assert {name: torch.equal(copy, start) for name, copy in copies(agent).items()} == dict.fromkeys(
        ("online", "key", "steady"), True
    )
    assert all(parameter.grad is None for parameter in agent.model.encoder.parameters())
    for name, module in others.items():
        assert not torch.equal(weights(module), before[name]), name


def test_a_frozen_encoder_costs_no_gradient(
    env_spec: EnvSpec, tiny_config: MakeConfig, make_batch: MakeBatch
) -> None:
    agent, _ = started(env_spec, tiny_config(encoder="file", encoder_mode="frozen"))
    found = []
    agent.model.encoder.register_forward_hook(lambda _, given, z: found.append(z.requires_grad))
    for learns in (False, True):
        agent.learns_encoder = learns
        agent.model.encode(make_batch(env_spec), torch.Generator().manual_seed(0))
    assert found == [False, True]


@pytest.mark.parametrize("mode", ["finetune", "warmup"])
def test_an_encoder_that_learns_is_followed_by_its_averages(
    env_spec: EnvSpec, tiny_config: MakeConfig, make_batch: MakeBatch, mode: str
) -> None:
    config = tiny_config(encoder="file", encoder_mode=mode, training={"encoder_warmup_updates": 0})
    agent, start = started(env_spec, config)
    agent.update(make_batch(env_spec), torch.Generator().manual_seed(0))
    agent.steady.follow()
    agent.steady.follow()  # the first update is followed altogether
    assert not any(torch.equal(copy, start) for copy in copies(agent).values())


def test_freezing_again_leaves_no_gradient_behind(
    env_spec: EnvSpec, tiny_config: MakeConfig, make_batch: MakeBatch
) -> None:
    agent, _ = started(env_spec, tiny_config(encoder="file"))
    agent.update(make_batch(env_spec), torch.Generator().manual_seed(0))
    agent.learns_encoder = False
    before = weights(agent.model.encoder)
    agent.update(make_batch(env_spec), torch.Generator().manual_seed(1))
    assert torch.equal(weights(agent.model.encoder), before)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("finetune", [True] * 4), ("frozen", [False] * 4), ("warmup", [False, False, True, True])],
)
def test_when_an_encoder_learns(tiny_config: MakeConfig, mode: str, expected: list[bool]) -> None:
    config = tiny_config(encoder="file", encoder_mode=mode, training={"encoder_warmup_updates": 2})
    assert [encoder_learns(config, updates) for updates in range(4)] == expected


def test_a_mode_without_an_encoder_is_a_mistake(tiny_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="give encoder, too"):
        tiny_config(encoder_mode="frozen")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"frame_shape": (3, 84, 84)}, "--size 84, not 32: pass --size 84"),
        ({"frame_shape": (3, 48, 64)}, "frames of 48 x 64"),
        ({"stack": 4}, "--stack 4, not 3: pass --stack 4"),
        ({"latent_dim": 32}, "--world-model.latent-dim 32, not 16"),
        ({"simnorm_group": 8}, "--world-model.simnorm-group 8, not 4"),
        ({"encoder": {"channels": 8}}, "--world-model.encoder.channels 8, not 4"),
        ({"encoder": {"channels": 4, "crop": 32}}, "--world-model.encoder.crop 32, not 0"),
        ({"obs": "state"}, "--obs state, not pixels: pass --obs state"),
        ({"stack": 4, "latent_dim": 32}, "pass --world-model.latent-dim 32 --stack 4"),
    ],
)
def test_an_encoder_that_does_not_fit(
    env_spec: EnvSpec, tiny_config: MakeConfig, facts: dict[str, Any], expected: str
) -> None:
    config = tiny_config(encoder="some/encoder.safetensors")
    own = EncoderFacts.of(env_spec, config.world_model, config.obs)
    other = EncoderFacts.model_validate(own.model_dump() | facts)
    with pytest.raises(ConfigError) as caught:
        check_encoder_fits(other, env_spec, config)
    assert expected in str(caught.value)
    assert "some/encoder.safetensors" in str(caught.value)


def test_what_makes_no_difference_is_not_asked_for(env_spec: EnvSpec, tiny_config: MakeConfig) -> None:
    """Augmentation and precision are the run's own; a vector that is not looked at may be any."""
    config = tiny_config(encoder="file")
    own = EncoderFacts.of(env_spec, config.world_model, config.obs)
    encoder = {"channels": 4, "shift_padding": 0, "precision": "bfloat16", "proprio_noise": 1.0}
    changes = {"encoder": encoder, "proprio_dim": 0, "hidden_dim": 9}
    check_encoder_fits(EncoderFacts.model_validate(own.model_dump() | changes), env_spec, config)


def test_an_encoder_of_another_tasks_vector(env_spec: EnvSpec, tiny_config: MakeConfig) -> None:
    config = tiny_config(encoder="file", obs="state")
    own = EncoderFacts.of(env_spec, config.world_model, config.obs)
    with pytest.raises(ConfigError, match="vector of length 7, not 5: take another one"):
        check_encoder_fits(
            EncoderFacts.model_validate(own.model_dump() | {"proprio_dim": 7}), env_spec, config
        )


@pytest.fixture
def run_config(tiny_config: MakeConfig) -> MakeConfig:
    def make(**options: Any) -> Config:
        training = {
            "random_frames": 20,
            "first_updates": 3,
            "exploration_frames": 20,
            "updates_per_step": 0.5,
        }
        return tiny_config(
            frames=80,
            training=training | options.pop("training", {}),
            evaluation={"every_frames": 1000, "episodes": 1, "videos": False},
            logging={"every_updates": 5, "checkpoint_every_frames": 20, "keep_every_frames": 20},
            **options,
        )

    return make


def run(config: Config, directory: Path, encoder: Encoder | None) -> Loop:
    pool = SerialPool(lambda i: CountingEnv(length=10, size=32), 1)
    eval_pool = SerialPool(lambda i: CountingEnv(length=6, size=32), 1)
    with Loop(config, directory, CPU, pool, eval_pool, Streams(config.seed), encoder=encoder) as loop:
        save_config(config, directory / "config.yaml")
        loop.announce({"versions": {"torch": "x"}})
        loop.run(Never())
    return loop


@pytest.mark.parametrize(("mode", "cut"), [("finetune", 40), ("frozen", 40), ("warmup", 20), ("warmup", 60)])
def test_a_run_goes_on_bit_for_bit_without_the_encoder(
    tmp_path: Path, run_config: MakeConfig, mode: str, cut: int
) -> None:
    """The warm-up ends after the cut at 20 frames, and before the one at 60."""
    config = run_config(encoder="file", encoder_mode=mode, training={"encoder_warmup_updates": 12})
    encoder = make_encoder(CountingEnv(size=32).env_spec, config)
    whole = run(config, tmp_path / "whole", encoder)
    run(config.model_copy(update={"frames": cut}), tmp_path / "cut", encoder)
    resumed = run(config, tmp_path / "cut", None)
    assert whole.progress.updates == resumed.progress.updates == 33
    torch.testing.assert_close(whole.agent.state_dict(), resumed.agent.state_dict(), rtol=0, atol=0)
    is_same = torch.equal(weights(whole.agent.model.encoder), weights(encoder))
    assert is_same == (mode == "frozen")


def test_the_warm_up_ends_when_it_should(tmp_path: Path, run_config: MakeConfig) -> None:
    config = run_config(encoder="file", encoder_mode="warmup", training={"encoder_warmup_updates": 12})
    encoder = make_encoder(CountingEnv(size=32).env_spec, config)
    run(config, tmp_path / "run", encoder)
    learnt = {}
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        state = checkpoint.load(path)
        prefix = "encoder."
        online = {
            name.removeprefix(prefix): value
            for name, value in state["agent"]["model"].items()
            if name.startswith(prefix)
        }
        is_same = all(torch.equal(value, online[name]) for name, value in encoder.state_dict().items())
        learnt[state["progress"]["updates"]] = not is_same
    assert learnt == {updates: updates > 12 for updates in learnt}
    assert set(learnt.values()) == {True, False}


def test_an_encoder_makes_a_difference(tmp_path: Path, run_config: MakeConfig) -> None:
    config = run_config()
    encoder = make_encoder(CountingEnv(size=32).env_spec, config)
    with_it, without = (
        run(config, tmp_path / name, each).agent for name, each in (("a", encoder), ("b", None))
    )
    assert not torch.equal(weights(with_it.model.encoder), weights(without.model.encoder))


@pytest.fixture
def finished(tmp_path: Path, run_config: MakeConfig) -> Path:
    run(run_config(obs="pixels+state"), tmp_path / "run", None)
    return tmp_path / "run"


def test_the_encoder_of_a_run_is_the_one_that_evaluation_acts_by(finished: Path) -> None:
    agent = load_agent(finished).agent
    loaded = encoder_of_run(finished)
    pixels, proprio = torch.randint(0, 256, (4, 9, 32, 32), dtype=torch.uint8), torch.randn(4, 2)
    with torch.no_grad():
        expected = agent.encode(pixels, proprio, torch.zeros(4, 2))[:, :16]
        torch.testing.assert_close(loaded.encoder(pixels, perceived(proprio)), expected)
    assert loaded.card.method == "agent, contrastive"
    assert loaded.card.data == {"task": "counting", "seed": 1, "episodes": 8}
    assert loaded.card.versions == {"torch": "x"}
    newest = checkpoint.latest(finished / "checkpoints")
    assert newest is not None
    assert read_encoder(newest).fingerprint == read_encoder(finished).fingerprint == loaded.fingerprint


def test_what_a_path_stands_for(finished: Path, tmp_path: Path) -> None:
    loaded = encoder_of_run(finished)
    save_encoder(tmp_path / "pretrained" / "encoder.safetensors", loaded.encoder, EncoderCard("byol"))
    for path in (tmp_path / "pretrained", tmp_path / "pretrained" / "encoder.safetensors"):
        found = read_encoder(path)
        assert (found.fingerprint, found.card.method) == (loaded.fingerprint, "byol")
    with pytest.raises(EncoderFileError, match="check its path"):
        read_encoder(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match=r"neither encoder\.safetensors nor a checkpoint"):
        read_encoder(tmp_path)


def test_a_checkpoint_that_does_not_belong_to_its_configuration(
    finished: Path, run_config: MakeConfig
) -> None:
    save_config(run_config(obs="pixels+state", world_model={"latent_dim": 32}), finished / "config.yaml")
    with pytest.raises(CheckpointError, match="name another checkpoint"):
        read_encoder(finished)
