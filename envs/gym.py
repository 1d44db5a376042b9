"""Gymnasium environments, seen through pixels and as their own vectors: its MuJoCo tasks, and any other.

Importing this module imports MuJoCo; `envs.registry.make_env` does so once a rendering backend is chosen.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from dm_control.mujoco.engine import Physics, Pose
from dm_control.mujoco.wrapper import MjData
from gymnasium.envs.mujoco import MujocoEnv
from PIL import Image

from configs.distractors import NO_DISTRACTORS
from envs.registry import TaskError
from envs.rendering import FrameCamera, NoCamera, forget_current_context, make_camera
from envs.spec import EnvSpec
from envs.state import StateVariable, state_variables

EPISODE_FRAMES = 1000
"""Time limit in frames of environments that are registered without one, as in dm_control."""

_ENDLESS = {"HalfCheetah-v5", "HumanoidStandup-v5", "Pusher-v5", "Reacher-v5", "Swimmer-v5"}
"""Known to run to their time limit; of any other environment nobody can tell."""

# It defines this camera and forgets to use it: seen from afar, the pendulum would be ten pixels high.
_POSES = {"InvertedDoublePendulum-v5": {"distance": 4.1225, "lookat": (0.0, 0.0, 0.1225)}}


class GymEnv(gym.Env):
    """One Gymnasium environment with stacked frames, action repeat and actions in [-1, 1].

    Its own observations are handed on where they are vectors. MuJoCo tasks are drawn by this project's
    camera, at the size of the frames: several of Gymnasium's renderers in one process draw into each other's
    context.

    Attributes:
        env_spec: facts about the task.
    """

    def __init__(
        self,
        identifier: str,
        *,
        seed: int,
        size: int,
        look: str,
        distract: str,
        action_repeat: int,
        stack: int,
    ) -> None:
        """Build the environment that is registered as `identifier`; others as in `envs.registry.make_env`.

        Raises:
            TaskError: it cannot be built or seen, or its actions are not continuous and bounded.
        """
        self._env = _make(identifier, "rgb_array" if size else None)
        space = self._env.observation_space
        self._is_vector = isinstance(space, gym.spaces.Box) and len(space.shape) == 1
        self._center, self._half_range = _action_scale(identifier, self._env.action_space)
        simulation = self._env.unwrapped
        # no copy: it shows what the task simulates
        self._physics = Physics(MjData(simulation.data)) if isinstance(simulation, MujocoEnv) else None
        self._camera = _make_camera(
            identifier, self._env, self._physics, size=size, look=look, distract=distract, seed=seed
        )
        observation, _ = self._env.reset(seed=seed)  # resets without a seed go on from what this leaves
        info = self._info(observation, 0)
        self._camera.start(seed)
        self._camera.frame()  # what cannot be seen is refused now
        self._stacked: np.ndarray | None = None  # None: the episode has ended or not begun
        self._episode_frame = 0
        self.env_spec = EnvSpec(
            task=f"gym/{identifier}",
            frame_shape=(3, size, size),
            stack=stack,
            action_dim=self._center.size,
            action_repeat=action_repeat,
            episode_frames=gym.spec(identifier).max_episode_steps or EPISODE_FRAMES,
            can_terminate=identifier not in _ENDLESS,
            physics_dim=info["physics"].size,
            look=look,
            distract=distract,
            proprio_dim=info["proprio"].size,
        )
        self.observation_space = gym.spaces.Box(0, 255, self.env_spec.obs_shape, np.uint8)
        self.action_space = gym.spaces.Box(-1.0, 1.0, self._center.shape, np.float32, seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; with a seed, it depends on nothing else. Options go to the environment."""
        super().reset(seed=seed)
        observation, _ = self._env.reset(seed=seed, options=options)
        self._episode_frame = 0
        self._camera.start(seed)
        self._stacked = np.tile(self._camera.frame(), (self.env_spec.stack, 1, 1))
        return self._stacked.copy(), self._info(observation, 0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold an action for up to `action_repeat` frames, until the episode ends.

        Raises:
            RuntimeError: the episode has ended or not begun.
            ValueError: the action has another shape than (A,).
        """
        if self._stacked is None:
            raise RuntimeError("no episode is running: call reset() first")
        if np.shape(action) != self._center.shape:
            raise ValueError(f"action: expected {self._center.shape}, found {np.shape(action)}")
        control = self._control(action)
        reward, frames = 0.0, 0
        terminated = truncated = False
        while frames < self.env_spec.action_repeat and not (terminated or truncated):
            observation, earned, ended, cut, _ = self._env.step(control)
            reward += float(earned)
            frames += 1
            self._episode_frame += 1
            terminated = bool(ended)
            at_limit = self._episode_frame == self.env_spec.episode_frames
            truncated = not terminated and (bool(cut) or at_limit)
        obs = np.concatenate([self._stacked[3:], self._camera.frame()])
        self._stacked = None if terminated or truncated else obs
        return obs.copy(), reward, terminated, truncated, self._info(observation, frames)

    @property
    def state_variables(self) -> tuple[StateVariable, ...]:
        """What the entries of the physics state mean; nothing where there is none."""
        return () if self._physics is None else state_variables(self._physics)

    def frame(self) -> np.ndarray:
        """Draw the state as it is: uint8 (3, size, size)."""
        return self._camera.frame()

    def close(self) -> None:
        """Free the simulation and its OpenGL context."""
        if self._physics is not None:
            self._physics.free()
        _free_viewer(self._env)
        self._env.close()

    def _control(self, action: np.ndarray) -> np.ndarray:
        """The action in the environment's own range, shape and type."""
        space = self._env.action_space
        control = self._center + self._half_range * np.clip(action, -1.0, 1.0)
        return control.reshape(space.shape).astype(space.dtype)

    def _info(self, observation: Any, frames: int) -> dict[str, Any]:
        physics = np.empty(0) if self._physics is None else self._physics.get_state()
        proprio = np.array(observation if self._is_vector else (), np.float32)
        return {"physics": physics, "proprio": proprio, "frames": frames}


class RenderCamera:
    """What an environment draws by itself, scaled to the size of the frames."""

    def __init__(self, identifier: str, env: gym.Env, size: int) -> None:
        """Draw `env`, once it has been reset."""
        self._identifier, self._env, self._size = identifier, env, size

    def start(self, seed: int | None) -> None:
        """See `FrameCamera.start`: all episodes are drawn alike."""

    def frame(self) -> np.ndarray:
        """See `FrameCamera.frame`.

        Raises:
            TaskError: the environment draws no picture.
        """
        image = self._rendered()
        if image.shape[:2] != (self._size, self._size):
            # each pixel is the mean of those it covers; what is not square is squeezed
            scaled = Image.fromarray(image).resize((self._size, self._size), Image.Resampling.BOX)
            image = np.asarray(scaled)
        return image.transpose(2, 0, 1).copy()  # (H, W, 3) -> (3, H, W)

    def _rendered(self) -> np.ndarray:
        viewer = _viewer_of(self._env)
        if viewer is not None:  # it would draw into whatever context was made last in this process
            viewer.make_context_current()
        try:
            image: Any = self._env.render()
        except gym.error.Error as error:
            raise TaskError(f"gym/{self._identifier} cannot be seen: {error}") from error
        forget_current_context()
        dtype, shape = getattr(image, "dtype", type(image).__name__), np.shape(image)
        if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise TaskError(
                f"gym/{self._identifier} cannot be seen: in render mode rgb_array it gave {dtype} {shape}, "
                "not a picture, uint8 (height, width, 3)"
            )
        return image


def _viewer_of(env: gym.Env) -> Any:
    """What draws an environment that uses Gymnasium's renderer, once it has drawn; None for all others."""
    return getattr(getattr(env.unwrapped, "mujoco_renderer", None), "viewer", None)


def _free_viewer(env: gym.Env) -> None:
    """Free what draws, now: whenever it is collected, it leaves the thread without a current context."""
    viewer = _viewer_of(env)
    if viewer is not None:
        viewer.make_context_current()
        viewer.con.free()
        viewer.free()
        forget_current_context()


def _make(identifier: str, render_mode: str | None) -> gym.Env:
    """The environment with its own time limit, never vectorised, so that nothing resets it but this class."""
    try:
        return gym.make(identifier, render_mode=render_mode, disable_env_checker=True)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise TaskError(f"gym/{identifier} cannot be built: {error}") from error


def _action_scale(identifier: str, space: gym.Space) -> tuple[np.ndarray, np.ndarray]:
    """Center and half range, float64 (A,), of an environment's actions."""
    if not (
        isinstance(space, gym.spaces.Box)
        and np.issubdtype(space.dtype, np.floating)
        and np.isfinite(space.low).all()
        and np.isfinite(space.high).all()
    ):
        raise TaskError(
            f"gym/{identifier} has actions {space}, but only numbers between finite bounds (a Box of floats) "
            "can be learnt: choose another task, or register a variant with such actions"
        )
    low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
    return (low + high) / 2, (high - low) / 2


def _make_camera(
    identifier: str,
    env: gym.Env,
    physics: Physics | None,
    *,
    size: int,
    look: str,
    distract: str,
    seed: int,
) -> FrameCamera:
    """What draws an environment: in MuJoCo the camera it was built with, else `track`, else a free one."""
    if physics is None:
        if distract != NO_DISTRACTORS:
            raise TaskError(
                f"gym/{identifier} draws itself, nothing can be put into its pictures: leave --distract out"
            )
        return RenderCamera(identifier, env, size) if size else NoCamera()
    simulation: Any = env.unwrapped
    camera_id = simulation.mujoco_renderer.camera_id
    if camera_id == -1:  # `track` follows the body, which otherwise leaves the picture
        camera_id = mujoco.mj_name2id(simulation.model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    pose = _free_pose(identifier, simulation)
    return make_camera(
        physics, size=size, camera_id=camera_id, look=look, distract=distract, seed=seed, pose=pose
    )


def _free_pose(identifier: str, simulation: Any) -> Pose:
    """Where Gymnasium puts its free camera."""
    pose = Pose(
        # of the model at rest: where it stands at the first reset would depend on that seed
        lookat=np.median(simulation.data.geom_xpos, axis=0),
        distance=simulation.model.stat.extent,
        azimuth=90.0,
        elevation=-45.0,
    )
    config = simulation.mujoco_renderer.default_cam_config or _POSES.get(identifier, {})
    return pose._replace(**{name: value for name, value in config.items() if name in Pose._fields})
