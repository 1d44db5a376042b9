"""A run that starts from another one: what it takes from the other's agent, and what it draws afresh.

The world model is about the body and its looks, and is taken with all its averages. Its reward head, its
continuation head, critics and policy are about the task, and are taken only where the task is the same.
Optimisers begin anew, as do the averages that evaluation acts by, unless the task is the same.
`agent.carrying` takes the experience.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agent import checkpoint
from agent.agent import Agent
from agent.checkpoint import CheckpointError
from agent.curious import make_agent
from agent.loading import find_checkpoint
from agent.starting import check_alike, what_matters
from configs.load import ConfigError, flatten, load_config
from configs.schema import Config
from envs.spec import EnvSpec
from world_model.encoder import EncoderFacts

# Parts of an agent, by a piece of their names in its state.
_OF_THE_TASK = {"reward", "continuation", "critics", "policy", "_extra_state"}
_OF_THE_REPLAY = {"queue", "memory"}  # keys bear numbers of episodes, others here; they soon fill again

# Options that decide which shapes a model's weights have.
_SHAPING = ("objective", "hidden_dim", "projection_dim", "similarity", "queue", "bins")


@dataclass(frozen=True)
class Predecessor:
    """A run as its checkpoint holds it.

    Attributes:
        path: the run directory.
        checkpoint: the file inside it.
        fingerprint: CRC-32 of that file, as 8 hexadecimal digits.
        config: its options.
        env_spec: its task.
        agent: the state of its agent.
        frames: that led to it: its own, and those of the runs that it started from.
        stored_episodes: it had recorded, numbered from 0.
    """

    path: Path
    checkpoint: Path
    fingerprint: str
    config: Config
    env_spec: EnvSpec
    agent: dict[str, Any]
    frames: int
    stored_episodes: int

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest should say, as JSON values."""
        return {
            "path": str(self.path),
            "checkpoint": self.checkpoint.name,
            "fingerprint": self.fingerprint,
            "task": self.env_spec.task,
            "frames": self.frames,
        }


def read_predecessor(run: str | Path) -> Predecessor:
    """What a run directory (its newest checkpoint), or a checkpoint inside one, holds.

    Raises:
        CheckpointError: no checkpoint there, or one that cannot be read.
        ConfigError: the run's `config.yaml` is missing or damaged.
    """
    path = find_checkpoint(run)
    state, directory = checkpoint.load(path), path.parent.parent
    config = load_config(directory / "config.yaml")
    try:
        return Predecessor(
            path=directory,
            checkpoint=path,
            fingerprint=f"{zlib.crc32(path.read_bytes()):08x}",
            config=config,
            env_spec=EnvSpec(**state["env_spec"]),
            agent=state["agent"],
            frames=state["progress"]["frames"] + _frames_before(directory / "manifest.json"),
            stored_episodes=state["stored_episodes"],
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} holds no run ({error!r}): name another one") from error


def _frames_before(manifest: Path) -> int:
    """Frames of the runs that a run started from; 0 where its manifest tells of none, or cannot be read."""
    try:
        return int(json.loads(manifest.read_text(encoding="utf-8"))["from"]["frames"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def earns_the_same(before: Predecessor, config: Config) -> bool:
    """Whether a run learns from the same rewards as the one it starts from did.

    Then what that one knew of them, and of how to earn them, holds on.
    """
    return before.env_spec.task == config.task and before.config.mode == config.mode == "task"


def check_follows(before: Predecessor, env_spec: EnvSpec, config: Config) -> None:
    """Find why a run cannot start from another one.

    Args:
        before: the other.
        env_spec: the run's task.
        config: of the run.

    Raises:
        ConfigError: it cannot; the message says what to pass instead.
    """
    subject = f"the run {config.from_run}"
    theirs, ours = before.env_spec, env_spec
    if _domain(theirs.task) != _domain(ours.task):
        raise ConfigError(
            f"{subject} is of {theirs.task}, another domain than {ours.task}: "
            f"take a run of {_domain(ours.task)}, or its encoder alone, with --encoder"
        )
    facts = EncoderFacts.of(theirs, before.config.world_model, before.config.obs)
    matters = what_matters(facts, EncoderFacts.of(ours, config.world_model, config.obs))
    for each, spec in zip(matters, (theirs, ours), strict=True):
        each |= {"--action-repeat": spec.action_repeat, "actions of length": spec.action_dim}
    if earns_the_same(before, config):  # the grid on which rewards and values are read
        for each, options in zip(matters, (before.config, config), strict=True):
            each["--world-model.symlog-limit"] = options.world_model.symlog_limit
    check_alike(subject, *matters)
    with torch.random.fork_rng(devices=[]):  # a rehearsal, before anything is copied
        inherit(make_agent(env_spec, config, torch.device("cpu")), before)
    if config.from_replay == "all":
        looks = [{"--look": each.look, "--distract": each.distract} for each in (before.config, config)]
        try:
            check_alike(subject, *looks)
        except ConfigError as error:
            raise ConfigError(f"{error}, or carry no replay over: --from-replay none") from error


def _domain(task: str) -> str:
    """What tasks of one body have in common: `dmc/walker` of `dmc/walker-walk`."""
    return task.partition("-")[0]


def inherit(agent: Agent, before: Predecessor) -> None:
    """Give an agent that has not learnt yet what it takes from a predecessor.

    Args:
        agent: as it was built; its optimisers stay as they are.
        before: one that `check_follows` let pass; unchanged.

    Raises:
        ConfigError: its weights have other shapes.
    """
    state = agent.state_dict()
    left_out = _OF_THE_REPLAY if earns_the_same(before, agent.config) else _OF_THE_REPLAY | _OF_THE_TASK
    for part in ("model", "actor_critic", "steady"):
        if part == "actor_critic" and "critics" in left_out:
            continue
        taken = {
            name: each for name, each in before.agent[part].items() if left_out.isdisjoint(name.split("."))
        }
        kept = {name for name in state[part] if not left_out.isdisjoint(name.split("."))}
        if taken.keys() != state[part].keys() - kept or any(
            _shape(value) != _shape(state[part][name]) for name, value in taken.items()
        ):
            raise ConfigError(_does_not_fit(before, agent.config))
        state[part] = state[part] | taken
    same_bonus = before.config.curiosity.bonus == agent.config.curiosity.bonus
    if "explorer" in state and same_bonus:
        novel = {
            name: each
            for name, each in before.agent["explorer"].items()
            if _OF_THE_REPLAY.isdisjoint(name.split("."))
        }
        state["explorer"] = state["explorer"] | novel
    try:
        agent.load_state_dict(state, optimizers=False)
    except (RuntimeError, KeyError, ValueError) as error:  # an explorer of another kind
        raise ConfigError(_does_not_fit(before, agent.config)) from error


def _shape(value: Any) -> torch.Size | None:
    return value.shape if isinstance(value, Tensor) else None


def _does_not_fit(before: Predecessor, config: Config) -> str:
    theirs, ours = (flatten(each.world_model.model_dump()) for each in (before.config, config))
    flags = " ".join(
        f"--world-model.{name.replace('_', '-')} {theirs[name]}"
        for name in _SHAPING
        if theirs[name] != ours[name]
    )
    remedy = f"pass {flags}" if flags else "give the options of that run"
    return f"the model of {config.from_run} has other parts or sizes than this run's: {remedy}"
