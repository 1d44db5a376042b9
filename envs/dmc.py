"""Tasks of the dm_control suite, seen through pixels and as the suite's own observations.

Importing this module imports MuJoCo; `envs.registry.make_env` does so once a rendering backend is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from dm_control import suite
from dm_control.rl.control import Task

from envs.rendering import make_camera
from envs.spec import EnvSpec
from envs.state import StateVariable, state_variables

EPISODE_FRAMES = 1000
"""Time limit in frames: the suite's own for every task but lqr, which has none and gets the same."""

_CAMERAS = {"quadruped": 2}  # camera 0 of the quadruped stands still while the animal leaves the picture
_MODEL_SEED = 0  # lqr draws its springs at load time: training, evaluation and workers must share them


class DmcEnv(gym.Env):
    """One suite task with stacked frames, action repeat and actions in [-1, 1].

    Attributes:
        env_spec: facts about the task.
    """

    def __init__(
        self,
        domain: str,
        task: str,
        *,
        seed: int,
        size: int,
        look: str,
        distract: str,
        action_repeat: int,
        stack: int,
    ) -> None:
        """Load the task; arguments as in `envs.registry.make_env`."""
        self._env = suite.load(domain, task, task_kwargs={"random": _MODEL_SEED})
        self._physics = self._env.physics
        self._env.task.random.seed(seed)
        self._camera = make_camera(
            self._physics,
            size=size,
            camera_id=_CAMERAS.get(domain, 0),
            look=look,
            distract=distract,
            seed=seed,
        )
        self._center, self._half_range = _action_scale(self._env.action_spec())
        self._stacked: np.ndarray | None = None  # None: the episode has ended or not begun
        self._episode_frame = 0
        self.env_spec = EnvSpec(
            task=f"dmc/{domain}-{task}",
            frame_shape=(3, size, size),
            stack=stack,
            action_dim=self._center.size,
            action_repeat=action_repeat,
            episode_frames=EPISODE_FRAMES,
            can_terminate=type(self._env.task).get_termination is not Task.get_termination,
            physics_dim=self._physics.get_state().size,
            look=look,
            distract=distract,
            proprio_dim=sum(math.prod(entry.shape) for entry in self._env.observation_spec().values()),
        )
        self.observation_space = gym.spaces.Box(0, 255, self.env_spec.obs_shape, np.uint8)
        self.action_space = gym.spaces.Box(-1.0, 1.0, self._center.shape, np.float32, seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; with a seed (below 2**32), the episode depends on nothing else."""
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        time_step = self._env.reset()
        self._episode_frame = 0
        self._camera.start(seed)
        self._stacked = np.tile(self._camera.frame(), (self.env_spec.stack, 1, 1))
        return self._stacked.copy(), self._info(time_step.observation, 0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action for up to `action_repeat` frames, until the episode ends.

        Raises:
            RuntimeError: the episode has ended or not begun.
            ValueError: the action has another shape than (A,), which would be broadcast to all actuators.
        """
        if self._stacked is None:
            raise RuntimeError("no episode is running: call reset() first")
        if np.shape(action) != self._center.shape:
            raise ValueError(f"action: expected {self._center.shape}, found {np.shape(action)}")
        control = self._center + self._half_range * np.clip(action, -1.0, 1.0)
        reward, frames = 0.0, 0
        terminated = truncated = False
        while frames < self.env_spec.action_repeat and not (terminated or truncated):
            time_step = self._env.step(control)
            reward += float(time_step.reward)
            frames += 1
            self._episode_frame += 1
            terminated = time_step.last() and time_step.discount == 0.0
            truncated = not terminated and self._episode_frame == EPISODE_FRAMES
        obs = np.concatenate([self._stacked[3:], self._camera.frame()])
        self._stacked = None if terminated or truncated else obs
        info = self._info(time_step.observation, frames)
        return obs.copy(), reward, terminated, truncated, info

    @property
    def state_variables(self) -> tuple[StateVariable, ...]:
        """What the entries of the physics state mean."""
        return state_variables(self._physics)

    def stand_at(self, physics: np.ndarray) -> dict[str, Any]:
        """Let the episode that is running go on from a physics state; where it stands there, leave it alone.

        What the task drew at the reset beside the state stays, and so do the time that is left and the
        frames of the stack.

        Returns:
            The `info` of that state.

        Raises:
            RuntimeError: the episode has ended or not begun.
            ValueError: the state has another size than `env_spec.physics_dim`.
        """
        if self._stacked is None:
            raise RuntimeError("no episode is running: call reset() first")
        if not np.array_equal(self._physics.get_state(), physics):
            self._set_physics(physics)
        return self._info(self._env.task.get_observation(self._physics), 0)

    def frame(self) -> np.ndarray:
        """Draw the state as it is: uint8 (3, size, size)."""
        return self._camera.frame()

    def draw(self, physics: np.ndarray) -> np.ndarray:
        """The frame of a physics state, uint8 (3, size, size); no episode is running afterwards.

        What a task draws at its resets beside the state (targets, for instance) is not part of it.

        Raises:
            ValueError: the state has another size than `env_spec.physics_dim`.
        """
        self._stacked = None
        self._set_physics(physics)
        return self._camera.frame()

    def close(self) -> None:
        """Free the simulation and its OpenGL context."""
        self._physics.free()

    def _set_physics(self, physics: np.ndarray) -> None:
        if physics.shape != (self.env_spec.physics_dim,):
            raise ValueError(
                f"physics states of {self.env_spec.task} have {self.env_spec.physics_dim} entries, "
                f"found {physics.shape}"
            )
        with self._physics.reset_context():
            self._physics.set_state(physics)

    def _info(self, observation: Mapping[str, Any], frames: int) -> dict[str, Any]:
        entries = [np.ravel(entry) for entry in observation.values()]
        proprio = np.concatenate(entries).astype(np.float32)
        return {"physics": self._physics.get_state(), "proprio": proprio, "frames": frames}


def _action_scale(spec: Any) -> tuple[np.ndarray, np.ndarray]:
    """Center and half range, float64 (A,), of a task's actions; unbounded ones are held to [-1, 1]."""
    unbounded = spec.maximum >= mujoco.mjMAXVAL
    low = np.where(unbounded, -1.0, spec.minimum)
    high = np.where(unbounded, 1.0, spec.maximum)
    return (low + high) / 2, (high - low) / 2
