"""What an agent that has not learnt yet takes over: from an encoder that was learnt before, or from a run.

Of a run, the world model is about the body and its looks, and is taken with all its averages. Its reward
head, its continuation head, critics and policy are about the task, and are taken only where the task is the
same. So is its explorer, whose policy seeks the task's rewards, too: it is taken only where the bonus is the
same as well. Optimisers begin anew, as do the averages that evaluation acts by, unless the task is the same.
`agent.carried_episodes` takes the experience.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from agent.agent import Agent
from agent.curious import make_agent
from agent.loading import Predecessor
from configs.load import ConfigError, flatten
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.encoder import Encoder, EncoderFacts

# Parts of an agent, by a piece of their names in its state.
_OF_THE_TASK = {"reward", "continuation", "critics", "policy", "_extra_state"}
_OF_THE_REPLAY = {"queue", "memory"}  # keys bear numbers of episodes, others here; they soon fill again

# Options that decide which shapes an agent's weights have: of the world model, and of what is about the task.
_SHAPING = tuple(
    f"world_model.{name}" for name in ("objective", "hidden_dim", "projection_dim", "similarity")
)
_SHAPING_THE_TASK = (
    "world_model.bins", "actor_critic.critics", "curiosity.members", "curiosity.member_dim"
)  # fmt: skip


def check_encoder_fits(facts: EncoderFacts, env_spec: EnvSpec, config: Config) -> None:
    """Find where an encoder differs from the one that a run would build for itself.

    Args:
        facts: of the encoder to start from.
        env_spec: the run's task.
        config: of the run, with the encoder's path.

    Raises:
        ConfigError: it differs; the message says in what, and what to pass.
    """
    wanted = EncoderFacts.of(env_spec, config.world_model, config.obs)
    _check_alike(f"the encoder {config.encoder}", *_what_matters(facts, wanted))


def check_run_fits(predecessor: Predecessor, env_spec: EnvSpec, config: Config) -> None:
    """Find why a run cannot start from another one.

    Args:
        predecessor: the other.
        env_spec: the run's task.
        config: of the run.

    Raises:
        ConfigError: it cannot; the message says what to pass instead.
    """
    subject = f"the run {config.from_run}"
    theirs, ours = predecessor.env_spec, env_spec
    if _domain(theirs.task) != _domain(ours.task):
        raise ConfigError(
            f"{subject} is of {theirs.task}, another domain than {ours.task}: "
            f"take a run of {_domain(ours.task)}, or its encoder alone, with --encoder"
        )
    facts = EncoderFacts.of(theirs, predecessor.config.world_model, predecessor.config.obs)
    matters = _what_matters(facts, EncoderFacts.of(ours, config.world_model, config.obs))
    for each, spec in zip(matters, (theirs, ours), strict=True):
        each |= {"--action-repeat": spec.action_repeat, "actions of length": spec.action_dim}
    if earns_the_same(predecessor, config):  # the grid on which rewards and values are read
        for each, options in zip(matters, (predecessor.config, config), strict=True):
            each["--world-model.symlog-limit"] = options.world_model.symlog_limit
    _check_alike(subject, *matters)
    with torch.random.fork_rng(devices=[]):  # a rehearsal, before anything is copied
        start_from_run(make_agent(env_spec, config, torch.device("cpu")), predecessor)
    if config.from_replay == "all":
        looks = [{"--look": each.look, "--distract": each.distract} for each in (predecessor.config, config)]
        try:
            _check_alike(subject, *looks)
        except ConfigError as error:
            raise ConfigError(f"{error}, or carry no replay over: --from-replay none") from error


def _domain(task: str) -> str:
    """What tasks of one body have in common: `dmc/walker` of `dmc/walker-walk`."""
    return task.partition("-")[0]


def _check_alike(subject: str, theirs: Mapping[str, object], ours: Mapping[str, object]) -> None:
    """Find where something that was made before differs from what a run needs.

    Args:
        subject: what it is, with its path.
        theirs: what matters about it, by the flag that sets it; facts without a flag in words.
        ours: the same of the run.

    Raises:
        ConfigError: it differs; the message says in what, and what to pass.
    """
    differing = [name for name in theirs if theirs[name] != ours.get(name)]
    if differing:
        found = "; ".join(f"{name} {theirs[name]}, not {ours.get(name, 'square ones')}" for name in differing)
        flags = " ".join(f"{name} {theirs[name]}" for name in differing if name.startswith("--"))
        remedy = f"pass {flags}" if all(name.startswith("--") for name in differing) else "take another one"
        raise ConfigError(f"{subject} was made for {found}: {remedy}")


def _what_matters(facts: EncoderFacts, wanted: EncoderFacts) -> tuple[dict[str, object], dict[str, object]]:
    """What two encoders must have in common, of each, for `_check_alike`."""
    if facts.obs != wanted.obs:  # what they look at decides what else matters
        return {"--obs": facts.obs}, {"--obs": wanted.obs}
    return _essentials(facts), _essentials(wanted)


def _essentials(facts: EncoderFacts) -> dict[str, object]:
    """What others must have in common with an encoder, by flag; facts without a flag in words."""
    _, height, width = facts.frame_shape
    matters: dict[str, object] = {
        "--world-model.latent-dim": facts.latent_dim,
        "--world-model.simnorm-group": facts.simnorm_group,
    }
    if "pixels" in facts.obs:
        size = {"--size": height} if height == width else {"frames of": f"{height} x {width}"}
        matters |= size | {
            "--stack": facts.stack,
            "--world-model.encoder.channels": facts.encoder.channels,
            "--world-model.encoder.crop": facts.encoder.crop,
        }
    if "state" in facts.obs:
        matters |= {
            "a task's vector of length": facts.proprio_dim,
            "--world-model.hidden-dim": facts.hidden_dim,
        }
    return matters


def earns_the_same(predecessor: Predecessor, config: Config) -> bool:
    """Whether a run learns from the same rewards as the one it starts from did.

    Then what that one knew of them, and of how to earn them, holds on.
    """
    return predecessor.env_spec.task == config.task and predecessor.config.mode == config.mode == "task"


def start_from_encoder(agent: Agent, encoder: Encoder) -> None:
    """Give an agent that has not learnt yet the weights of an encoder, in every copy that it holds.

    Args:
        agent: as it was built; optimisers know nothing of the encoder yet, and stay so.
        encoder: one that fits, see `check_encoder_fits`; unchanged.
    """
    weights = encoder.state_dict()
    for copy in (agent.model.encoder, agent.model.key_encoder, agent.steady.averages["encoder"]):
        copy.load_state_dict(weights)


def encoder_learns(config: Config, updates: int) -> bool:
    """Whether the update after so many others may change the encoder."""
    if config.encoder_mode == "warmup":
        return updates >= config.training.encoder_warmup_updates
    return config.encoder_mode == "finetune"


def start_from_run(agent: Agent, predecessor: Predecessor) -> None:
    """Give an agent that has not learnt yet what it takes from a predecessor.

    Args:
        agent: as it was built; its optimisers stay as they are.
        predecessor: one that `check_run_fits` let pass; unchanged.

    Raises:
        ConfigError: its weights have other shapes.
    """
    state, same_rewards = agent.state_dict(), earns_the_same(predecessor, agent.config)
    left_out = _OF_THE_REPLAY if same_rewards else _OF_THE_REPLAY | _OF_THE_TASK
    parts = ["model", "steady"]
    if same_rewards:
        parts.append("actor_critic")
        if "explorer" in state and predecessor.config.curiosity.bonus == agent.config.curiosity.bonus:
            parts.append("explorer")
    try:
        for part in parts:
            state[part] = _with_weights_of(predecessor.agent[part], state[part], left_out)
        agent.load_state_dict(state, optimizers=False)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ConfigError(_does_not_fit(predecessor, agent.config)) from error


def _with_weights_of(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], left_out: set[str]
) -> dict[str, Any]:
    """The state of a part of an agent with another agent's weights, but where a name has a piece left out.

    Raises:
        ValueError: names or shapes are not the same.
    """
    taken, replaced = (
        {name: each for name, each in state.items() if left_out.isdisjoint(name.split("."))}
        for state in (theirs, ours)
    )
    if {name: _shape(each) for name, each in taken.items()} != {
        name: _shape(each) for name, each in replaced.items()
    }:
        raise ValueError("other parts or sizes")
    return {**ours, **taken}


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _does_not_fit(predecessor: Predecessor, config: Config) -> str:
    names = _SHAPING + (_SHAPING_THE_TASK if earns_the_same(predecessor, config) else ())
    theirs, ours = (flatten(each.model_dump()) for each in (predecessor.config, config))
    flags = " ".join(
        f"--{name.replace('_', '-')} {theirs[name]}" for name in names if theirs[name] != ours[name]
    )
    remedy = f"pass {flags}" if flags else "give the options of that run"
    return f"the agent of {config.from_run} has other parts or sizes than this run's: {remedy}"
