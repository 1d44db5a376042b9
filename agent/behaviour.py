"""What chooses the actions of recorded episodes: chance, with a memory or not, an agent or its explorer.

An episode's behaviour, and all that it draws, follow from the seed and the episode's number alone: neither
the episodes before it nor those beside it matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from agent.agent import Agent
from agent.controller import Controller
from agent.seeding import Streams
from configs.control import ControlName
from envs.spec import EnvSpec, Observation

_GOLDEN = (math.sqrt(5) - 1) / 2


class Behaviour(Protocol):
    """Chooses the actions of one episode."""

    def act(self, obs: Observation) -> np.ndarray:
        """The action for an observation that follows the one of the call before, float32 (A,) in [-1, 1]."""


class UniformRandom:
    """Independent and uniform actions."""

    def __init__(self, rng: np.random.Generator, action_dim: int) -> None:
        """Draw `action_dim` entries from `rng`."""
        self._rng, self._action_dim = rng, action_dim

    def act(self, obs: Observation) -> np.ndarray:
        """Whatever there is to see."""
        return self._rng.uniform(-1, 1, self._action_dim).astype(np.float32)


class SmoothRandom:
    """Uniform actions, too, but alike from one decision to the next.

    Each entry is an Ornstein-Uhlenbeck process of mean 0 and deviation 1, started in its stationary
    distribution and pushed through the normal distribution function, so that every single action is
    distributed as that of `UniformRandom`; only time tells them apart. Decisions k apart have the correlation
    6/pi asin(e^(-k/tau) / 2).

    Source: Uhlenbeck and Ornstein 1930; the update is exact at any step (Gillespie 1996,
    doi:10.1103/PhysRevE.54.2084, eq. 1.9a).
    """

    def __init__(self, rng: np.random.Generator, action_dim: int, correlation_steps: float) -> None:
        """Start a process.

        Args:
            rng: draws the noise.
            action_dim: A, entries of an action; they are independent.
            correlation_steps: tau, decisions after which the process's correlation is 1/e, > 0.
        """
        self._rng = rng
        self._decay = math.exp(-1 / correlation_steps)
        self._state = rng.normal(size=action_dim)

    def act(self, obs: Observation) -> np.ndarray:
        """Whatever there is to see."""
        action = np.array([math.erf(entry / math.sqrt(2)) for entry in self._state], np.float32)
        noise = self._rng.normal(size=len(action))
        self._state = self._decay * self._state + math.sqrt(1 - self._decay**2) * noise
        return action


@dataclass(frozen=True)
class Policy:
    """A trained agent as a behaviour.

    Attributes:
        agent: who acts.
        noise_std: deviation of Gaussian noise on its actions.
        control: name of a planner; None: as it was configured.
    """

    agent: Agent
    noise_std: float = 0.0
    control: ControlName | None = None

    def start(self, rng: np.random.Generator, *, explores: bool = False) -> AgentBehaviour:
        """The behaviour of an episode; a curious agent may explore in it, by its present weight."""
        return AgentBehaviour(self, rng, explores=explores)


class AgentBehaviour:
    """An episode of an agent; one by itself, because sums in a batch are rounded by the batch's size."""

    def __init__(self, policy: Policy, rng: np.random.Generator, *, explores: bool = False) -> None:
        """Seed the planner and the noise from `rng`."""
        generator = torch.Generator(policy.agent.device).manual_seed(int(rng.integers(2**63)))
        self._controller = Controller(policy.agent, 1, generator, control=policy.control, collects=explores)
        self._noise_std = policy.noise_std

    def act(self, obs: Observation) -> np.ndarray:
        """The agent's action, with noise."""
        return self._controller.act({0: obs}, self._noise_std)[0]


class Behaviours:
    """Which behaviour an episode has, and its beginning."""

    def __init__(
        self,
        shares: Mapping[str, float],
        streams: Streams,
        env_spec: EnvSpec,
        *,
        correlation_frames: float,
        policy: Policy | None = None,
        explorer: Policy | None = None,
    ) -> None:
        """Mix behaviours.

        Args:
            shares: how many episodes each has in proportion to others, by name (`configs.behaviours`).
            streams: of the collection's seed.
            env_spec: the task's facts.
            correlation_frames: correlation time of `smooth-random`, in frames.
            policy: the agent of `policy`, if that has a share.
            explorer: that of `explore`, likewise, with the networks that it collected by.
        """
        self._names = list(shares)
        self._ends = np.cumsum([*shares.values()]) / sum(shares.values())
        self._streams = streams
        self._first = streams.numpy("policy").random()
        self._action_dim = env_spec.action_dim
        self._correlation_steps = correlation_frames / env_spec.action_repeat
        self._agents = {"policy": policy, "explore": explorer}

    def name(self, episode: int) -> str:
        """The behaviour of an episode, by its number.

        Multiples of the golden ratio, modulo 1, from a place that the seed draws: among the first n episodes,
        whatever n is, each behaviour has its share to within an episode or two.

        Source: the sequence of Weyl; why the golden ratio, Niederreiter 1992,
        doi:10.1137/1.9781611970081, section 3.1.
        """
        place = (self._first + episode * _GOLDEN) % 1
        return self._names[min(int(np.searchsorted(self._ends, place, side="right")), len(self._names) - 1)]

    def start(self, episode: int) -> Behaviour:
        """The behaviour of an episode, at its start."""
        rng, name = self._streams.episode_generator("policy", episode), self.name(episode)
        if name == "random":
            return UniformRandom(rng, self._action_dim)
        if name == "smooth-random":
            return SmoothRandom(rng, self._action_dim, self._correlation_steps)
        agent = self._agents[name]
        if agent is None:
            raise ValueError(f"episode {episode} is {name}'s, but there is no agent")
        return agent.start(rng, explores=name == "explore")
