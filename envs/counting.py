"""A fake task whose pixels say which step of which episode they show: for tests of whatever moves frames."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from envs.spec import EnvSpec
from envs.state import StateVariable


class CountingEnv(gym.Env):
    """Every frame is one colour: red, green: decisions since reset (low, high byte); blue: the episode.

    The reward of a decision is the number of decisions before it; physics and the vector are (decision,
    episode). The episode is the seed modulo 256 of a seeded reset, and otherwise one more than the last.

    Attributes:
        env_spec: facts about the task.
    """

    def __init__(
        self,
        *,
        length: int = 100,
        terminate: bool = False,
        action_dim: int = 2,
        seed: int = 0,
        size: int = 64,
        look: str = "fast",
        action_repeat: int = 1,
        stack: int = 3,
    ) -> None:
        """Build it.

        Args:
            length: frames an episode.
            terminate: episodes end by termination, instead of truncation.
            action_dim: A.
            seed: determines samples of the action space.
            size: height and width of the frames in pixels; 0: there are none.
            look: recorded in `env_spec` only.
            action_repeat: frames each decision lasts.
            stack: frames in an observation.
        """
        self.env_spec = EnvSpec(
            task="counting",
            frame_shape=(3, size, size),
            stack=stack,
            action_dim=action_dim,
            action_repeat=action_repeat,
            episode_frames=length,
            can_terminate=terminate,
            physics_dim=2,
            look=look,
            proprio_dim=2,
        )
        self.observation_space = gym.spaces.Box(0, 255, self.env_spec.obs_shape, np.uint8)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (action_dim,), np.float32, seed=seed)
        self._episode = -1
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start the next episode, or the one that a seed names."""
        super().reset(seed=seed)
        self._episode = (self._episode + 1 if seed is None else seed) % 256
        self._step = 0
        return self._obs(), self._info(0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Count on.

        Raises:
            RuntimeError: the episode has ended or not begun.
        """
        spec = self.env_spec
        if self._episode < 0 or self._step == spec.episode_steps:
            raise RuntimeError("no episode is running: call reset() first")
        frames = min(spec.action_repeat, spec.episode_frames - self._step * spec.action_repeat)
        reward = float(self._step)
        self._step += 1
        ended = self._step == spec.episode_steps
        terminated = ended and spec.can_terminate
        return self._obs(), reward, terminated, ended and not terminated, self._info(frames)

    @property
    def state_variables(self) -> tuple[StateVariable, ...]:
        """What the entries of the physics state mean."""
        return StateVariable("decision", 0, "position"), StateVariable("episode", 1, "position")

    def frame(self) -> np.ndarray:
        """Draw the state as it is: uint8 (3, size, size)."""
        return self._obs()[-3:]

    def _obs(self) -> np.ndarray:
        spec = self.env_spec
        steps = [max(0, self._step - age) for age in reversed(range(spec.stack))]
        colours = [(step % 256, step // 256, self._episode) for step in steps]
        flat = np.array(colours, np.uint8).reshape(-1, 1, 1)
        return np.broadcast_to(flat, spec.obs_shape).copy()

    def _info(self, frames: int) -> dict[str, Any]:
        physics = np.array([self._step, self._episode], np.float64)
        return {"physics": physics, "proprio": physics.astype(np.float32), "frames": frames}


def decode_step(frames: np.ndarray) -> np.ndarray:
    """Decisions since reset that frames show: uint8 (..., 3, H, W) -> int64 (...)."""
    centre = _centre(frames)
    return centre[..., 0] + 256 * centre[..., 1]


def decode_episode(frames: np.ndarray) -> np.ndarray:
    """Episode, modulo 256, that frames show: uint8 (..., 3, H, W) -> int64 (...)."""
    return _centre(frames)[..., 2]


def _centre(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    return frames[..., frames.shape[-2] // 2, frames.shape[-1] // 2].astype(np.int64)
