"""An episode as it was lived: its arrays, where it comes from, and how it is gathered.

Time indices follow `envs.spec`; `envs.episodes` keeps episodes on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.distractors import NO_DISTRACTORS
from envs.spec import EnvSpec, Observation, Transition

# The arrays of an episode.
DTYPES: dict[str, np.dtype[Any]] = {
    "frame": np.dtype(np.uint8),
    "action": np.dtype(np.float32),
    "reward": np.dtype(np.float32),
    "terminated": np.dtype(np.bool_),
    "truncated": np.dtype(np.bool_),
    "physics": np.dtype(np.float64),
    "proprio": np.dtype(np.float32),
}


@dataclass(frozen=True)
class EpisodeInfo:
    """Where an episode comes from.

    Attributes:
        task: canonical task name.
        look: `fast` or `original` rendering.
        action_repeat: frames a decision lasts.
        lane: which of the environments side by side.
        episode: number of the episode in its run, in the order of starts.
        seed: what the environment was reset with.
        frames: calls of the task's `step`.
        versions: of the software that matters for pixels and physics, by name.
        distract: distractors of the pixels, as in `EnvSpec`.
        behaviour: what chose the actions (`configs.behaviours`); empty: an agent in training.
    """

    task: str
    look: str
    action_repeat: int
    lane: int
    episode: int
    seed: int
    frames: int
    versions: Mapping[str, str]
    distract: str = NO_DISTRACTORS
    behaviour: str = ""


@dataclass(frozen=True)
class Episode:
    """T decisions and T + 1 observations; arrays that were read from a store are read-only.

    Attributes:
        frame: single RGB frames, uint8 (T + 1, 3, H, W).
        action: float32 (T, A), in [-1, 1].
        reward: float32 (T,).
        terminated: bool (T,), only the last may be True.
        truncated: bool (T,), only the last may be True.
        physics: physics states, float64 (T + 1, entries).
        proprio: the task's own observation vectors, float32 (T + 1, D).
        info: where it comes from.
    """

    frame: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    physics: np.ndarray
    proprio: np.ndarray
    info: EpisodeInfo

    def __post_init__(self) -> None:
        """Check dtypes and that all arrays tell of the same T decisions.

        Raises:
            ValueError: they do not; the message names the array.
        """
        steps = len(self.action)
        expected = {"frame": (steps + 1, 4), "action": (steps, 2)}
        expected |= dict.fromkeys(("physics", "proprio"), (steps + 1, 2))
        for name, dtype in DTYPES.items():
            array, (length, ndim) = getattr(self, name), expected.get(name, (steps, 1))
            if array.dtype != dtype or array.ndim != ndim or len(array) != length:
                raise ValueError(
                    f"{name} must be {dtype} with {ndim} axes and {length} rows, "
                    f"found {array.dtype} {array.shape}"
                )
        if steps < 1 or self.frame.shape[1] != 3:
            raise ValueError(f"an episode needs a decision and RGB frames, found frames {self.frame.shape}")
        if (self.terminated | self.truncated)[:-1].any():
            raise ValueError("an episode goes on after it was terminated or truncated")

    @property
    def steps(self) -> int:
        """Decisions T."""
        return len(self.action)

    @property
    def episode_return(self) -> float:
        """Sum of rewards, added in float64."""
        return float(self.reward.sum(dtype=np.float64))


class EpisodeBuilder:
    """Gathers the transitions of one lane until its episode ends."""

    def __init__(self, env_spec: EnvSpec, *, lane: int, versions: Mapping[str, str]) -> None:
        """Build for one environment.

        Args:
            env_spec: the environment's facts.
            lane: which of the environments side by side.
            versions: of the software that matters for pixels and physics, by name.
        """
        self._env_spec, self._lane, self._versions = env_spec, lane, dict(versions)
        self._first: tuple[Observation, np.ndarray] | None = None  # with physics, at t = 0
        self._episode, self._seed, self._behaviour = 0, 0, ""
        self._transitions: list[Transition] = []

    def start(
        self, obs: Observation, physics: np.ndarray, *, episode: int, seed: int, behaviour: str = ""
    ) -> None:
        """Begin an episode; one that has not ended is forgotten.

        Args:
            obs: obs[0]; kept, so it must not be changed afterwards.
            physics: physics[0], float64; kept likewise.
            episode: its number, as `Replay.start` returned it.
            seed: what the environment was reset with.
            behaviour: what chooses the actions; empty: an agent in training.
        """
        self._first = obs, physics
        self._episode, self._seed, self._behaviour = episode, seed, behaviour
        self._transitions = []

    def add(self, transition: Transition) -> Episode | None:
        """Append a decision; returns the whole episode when this decision ended it.

        Raises:
            ValueError: no episode is under way.
        """
        if self._first is None:
            raise ValueError(f"lane {self._lane} adds a transition, but no episode has been started there")
        self._transitions.append(transition)
        if not (transition.terminated or transition.truncated):
            return None
        episode = self._finish(*self._first)
        self._first, self._transitions = None, []
        return episode

    def discard(self) -> list[Transition]:
        """Forget the episode under way; returns its decisions."""
        lost = self._transitions
        self._first, self._transitions = None, []
        return lost

    def _finish(self, obs: Observation, physics: np.ndarray) -> Episode:
        transitions, env_spec = self._transitions, self._env_spec
        info = EpisodeInfo(
            task=env_spec.task,
            look=env_spec.look,
            action_repeat=env_spec.action_repeat,
            lane=self._lane,
            episode=self._episode,
            seed=self._seed,
            frames=sum(transition.frames for transition in transitions),
            versions=self._versions,
            distract=env_spec.distract,
            behaviour=self._behaviour,
        )
        rows = {name: [getattr(transition, name) for transition in transitions] for name in DTYPES}
        for name, first in (("frame", obs.frame), ("physics", physics), ("proprio", obs.proprio)):
            rows[name].insert(0, first)
        arrays = {name: np.array(rows[name], dtype) for name, dtype in DTYPES.items()}
        return Episode(**arrays, info=info)
