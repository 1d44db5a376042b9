"""What an environment promises, and the one convention for time indices.

Index convention: `obs[t], action[t] -> reward[t], terminated[t], obs[t+1]`. An episode of T decisions
carries T actions, rewards and flags, and T + 1 observations. `frames` are calls of the underlying
task's `step` before action repeat; `steps` are decisions of the agent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np

from configs.distractors import NO_DISTRACTORS


@dataclass(frozen=True)
class EnvSpec:
    """Facts about a task that are known once it is built.

    Attributes:
        task: canonical name, for instance `dmc/cartpole-swingup`.
        frame_shape: one RGB frame, (3, size, size), uint8; (3, 0, 0) where nothing is drawn.
        stack: frames in an observation; an observation is (3 * stack, size, size), oldest first.
        action_dim: A; actions are float32 in [-1, 1].
        action_repeat: frames each decision lasts.
        episode_frames: time limit in frames.
        can_terminate: whether the task may end before its time limit.
        physics_dim: entries of the physics state vector, float64.
        look: `fast` or `original` rendering.
        distract: distractors of the pixels, in the text form of `configs.distractors.DistractorOptions`.
        proprio_dim: D, entries of the task's own observation vector (proprioception), float32; 0 where it
            has none.
    """

    task: str
    frame_shape: tuple[int, int, int]
    stack: int
    action_dim: int
    action_repeat: int
    episode_frames: int
    can_terminate: bool
    physics_dim: int
    look: str
    distract: str = NO_DISTRACTORS
    proprio_dim: int = 0

    @property
    def obs_shape(self) -> tuple[int, int, int]:
        """Shape of a stacked observation, (3 * stack, size, size)."""
        channels, height, width = self.frame_shape
        return channels * self.stack, height, width

    @property
    def is_drawn(self) -> bool:
        """Whether frames show anything."""
        return self.frame_shape[-1] > 0

    @property
    def episode_steps(self) -> int:
        """Time limit in decisions."""
        return -(-self.episode_frames // self.action_repeat)


class Observation(NamedTuple):
    """What there is to see at one time, whether or not the agent looks at it.

    Attributes:
        pixels: stacked frames, uint8 (3 * stack, size, size), memory of its own.
        proprio: the task's own observation vector, float32 (D,), memory of its own.
    """

    pixels: np.ndarray
    proprio: np.ndarray

    @property
    def frame(self) -> np.ndarray:
        """The newest frame, uint8 (3, size, size)."""
        return self.pixels[-3:]


@dataclass(frozen=True)
class Transition:
    """What one environment returned for one decision.

    Attributes:
        frame: the newest RGB frame, uint8 (3, H, W): `obs[t+1]` without its stack.
        proprio: the task's own observation vector at t+1, float32 (D,).
        action: action[t], float32 (A,).
        reward: sum of the frames' rewards.
        terminated: the task ended; the value of the successor is zero.
        truncated: the time limit was reached; the successor still has a value.
        physics: physics state at t+1, float64 (physics_dim,).
        frames: frames that the decision lasted (fewer than the action repeat at an episode's end).
    """

    frame: np.ndarray
    proprio: np.ndarray
    action: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    physics: np.ndarray
    frames: int

    @classmethod
    def of(cls, action: np.ndarray, step: StepResult) -> Transition:
        """An action and what came of it."""
        return cls(
            frame=step.obs.frame,
            proprio=step.obs.proprio,
            action=action,
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.truncated,
            physics=step.physics,
            frames=step.frames,
        )


@dataclass(frozen=True)
class StepResult:
    """What one environment returned for one decision; fields as in `Transition`.

    Attributes:
        obs: what there is to see afterwards.
        reward: sum over the decision's frames.
        terminated: the task ended.
        truncated: the time limit was reached.
        physics: float64 (physics_dim,).
        frames: frames that the decision lasted.
    """

    obs: Observation
    reward: float
    terminated: bool
    truncated: bool
    physics: np.ndarray
    frames: int


class WorkerError(RuntimeError):
    """Environments cannot be built, or fail so often that going on makes no sense."""


class Pool(ABC):
    """Environments 0 .. count - 1 of one task, each built again when it fails.

    An environment fails when it raises, dies, hangs, or returns a reward that is no number or a vector that
    holds other things. It is then missing from the results, its episode is lost, and it takes part again from
    its next reset on.

    Attributes:
        env_spec: facts about the task, the same for all.
        count: number of environments.
        restarts: times that one of them was built again.
    """

    env_spec: EnvSpec
    count: int
    restarts: int

    @abstractmethod
    def reset(self, seeds: dict[int, int]) -> dict[int, tuple[Observation, np.ndarray]]:
        """Start episodes in some environments.

        Args:
            seeds: index -> seed of the episode.

        Returns:
            Index -> (obs, physics), as in `StepResult`, of those that did not fail.

        Raises:
            WorkerError: one of them fails too often; the pool is closed.
            RuntimeError: the pool was closed before.
        """

    @abstractmethod
    def step(self, actions: dict[int, np.ndarray]) -> dict[int, StepResult]:
        """Take one decision in some environments.

        Args:
            actions: index -> action, float32 (A,).

        Returns:
            Index -> result, of those that did not fail.

        Raises:
            WorkerError: one of them fails too often; the pool is closed.
            RuntimeError: the pool was closed before.
        """

    @abstractmethod
    def close(self) -> None:
        """Free everything; never hangs, and may be called again."""

    def __enter__(self) -> Pool:
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
