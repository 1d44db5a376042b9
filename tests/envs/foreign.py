"""Environments of somebody else: importing this module registers them with Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

HEIGHT, WIDTH = 96, 128
BLOCK = 16


class DiscEnv(gym.Env):
    """A block that is pushed across a board and falls off its right edge; the reward is the push.

    Attributes:
        pushes: what `step` was given since the last reset.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(
        self,
        render_mode: str | None = None,
        action_space: gym.Space | None = None,
        picture: bool = True,
        is_board: bool = False,
        cut_at: int | None = None,
    ) -> None:
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, WIDTH, (1, 1) if is_board else (1,), np.float64)
        self.action_space = action_space or gym.spaces.Box(-1.0, 3.0, (1, 2), np.float32)
        self.picture, self.cut_at = picture, cut_at
        self.pushes: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.pushes = []
        self.column = int(self.np_random.integers(BLOCK))
        if options:
            self.column = options["column"]
        return self._observation(), {}

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action), action
        self.pushes.append(action)
        self.column += round(float(action.sum()))
        fell = self.column > WIDTH - BLOCK
        cut = len(self.pushes) == self.cut_at
        self.column = int(np.clip(self.column, 0, WIDTH - BLOCK))
        return self._observation(), float(action.sum()), np.bool_(fell), cut, {}

    def _observation(self) -> np.ndarray:
        return np.full(self.observation_space.shape or (), self.column, np.float64)

    def render(self) -> Any:
        if not self.picture:
            return None
        image = np.full((HEIGHT, WIDTH, 3), (0, 60, 120), np.uint8)
        image[HEIGHT // 2 - BLOCK : HEIGHT // 2 + BLOCK, self.column : self.column + BLOCK] = (240, 200, 40)
        return image


class SwingEnv(gym.Env):
    """A pendulum that draws itself by Gymnasium's renderer, as environments outside of Gymnasium do."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.model = mujoco.MjModel.from_xml_string(
            """
            <mujoco>
              <worldbody>
                <light pos="0 -1 2"/>
                <body pos="0 0 1">
                  <joint type="hinge" axis="0 1 0" name="hinge"/>
                  <geom type="capsule" fromto="0 0 0 0 0 -0.6" size="0.1" rgba="0.9 0.6 0.1 1"/>
                </body>
              </worldbody>
              <actuator><motor joint="hinge" gear="5"/></actuator>
            </mujoco>
            """
        )
        self.data = mujoco.MjData(self.model)
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.mujoco_renderer = MujocoRenderer(self.model, self.data, width=64, height=64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        return self.data.qpos.copy(), {}

    def step(self, action: np.ndarray) -> Any:
        self.data.ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=10)
        return self.data.qpos.copy(), 0.0, False, False, {}

    def render(self) -> Any:
        return self.mujoco_renderer.render(self.render_mode)


VARIANTS: dict[str, dict[str, Any]] = {
    "Disc": {},
    "Board": {"kwargs": {"is_board": True}},
    "Limited": {"max_episode_steps": 7},
    "Cutting": {"kwargs": {"cut_at": 5}},
    "Discrete": {"kwargs": {"action_space": gym.spaces.Discrete(3)}},
    "Unbounded": {"kwargs": {"action_space": gym.spaces.Box(-np.inf, 1.0, (2,), np.float32)}},
    "Whole": {"kwargs": {"action_space": gym.spaces.Box(0, 9, (2,), np.int64)}},
    "Unseen": {"kwargs": {"picture": False}},
}

gym.register("foreign/Swing-v0", f"{__name__}:SwingEnv")
for name, options in VARIANTS.items():
    gym.register(f"foreign/{name}-v0", f"{__name__}:DiscEnv", **options)
