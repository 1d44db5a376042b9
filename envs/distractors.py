"""What distracts from a task without touching it: moving backgrounds, drifting colours, a drifting camera.

The three kinds, their random walks, and what grows with their strength are those of the Distracting Control
Suite (Stone et al. 2021, arXiv:2101.02722): colours and camera move within ranges proportional to a scale of
0.1, 0.2 or 0.3, and training sees 4, 8 or 60 backgrounds. Deviations: backgrounds are made on the spot, lie
over sky and floor alike, and let both show through, where the suite replaces the sky by DAVIS videos; angles
of the camera are walked in its own frame, one rule for cameras that look down and those that look ahead.

Everything here works on `mujoco` structures and needs only a `View`, so that it serves any MuJoCo task.
Physics is never touched: colours are no part of it, and the camera is moved in the scene that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import mujoco
import numpy as np

from configs.distractors import DistractorOptions, split_background
from envs.backgrounds import Background, Clip, Waves, load_clip, split_clips


@dataclass(frozen=True)
class Strength:
    """How much one strength distracts.

    Attributes:
        scale: of the ranges and steps of colours and camera, as in the paper.
        opacity: of the background over sky and floor, in [0, 1].
        speed: of the pattern's fastest wave, in widths of the picture a decision.
        backgrounds: number of patterns in training.
    """

    scale: float
    opacity: float
    speed: float
    backgrounds: int


STRENGTHS = {
    "easy": Strength(scale=0.1, opacity=0.3, speed=1 / 128, backgrounds=4),
    "medium": Strength(scale=0.2, opacity=0.6, speed=1 / 64, backgrounds=8),
    "hard": Strength(scale=0.3, opacity=0.9, speed=1 / 32, backgrounds=60),
}
COLOUR_STEP = 0.03
"""Deviation of a colour's step, in multiples of the scale; its range is the scale itself."""

# Multiples of the scale for azimuth, elevation, roll (radians) and change of distance (share of it). The
# published steps are of a camera four units away.
VIEW_HIGH = np.array([np.pi / 2, np.pi / 2, np.pi / 2, 1.5])
VIEW_LOW = -np.array([np.pi / 2, np.pi / 2, np.pi / 2, 0.5])
VIEW_STEP = np.array([0.1 / 4, 0.1 / 4, np.pi / 300, 0.1 / 4])
VIEW_SPEED = np.array([0.4 / 4, 0.4 / 4, np.pi / 50, 0.4 / 4])

NEAREST = 0.1
"""Least distance of what a camera looks at, in extents of the model: a camera may stand among the bodies."""

LATEST_START = 10_000
"""Decisions: episodes that share a background begin anywhere in so much of it."""

_FLOORS = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_HFIELD)
_SEGMENTATION = {
    mujoco.mjtRndFlag.mjRND_SEGMENT: True,
    mujoco.mjtRndFlag.mjRND_IDCOLOR: True,
    mujoco.mjtRndFlag.mjRND_SHADOW: False,  # neither is seen, and both cost time
    mujoco.mjtRndFlag.mjRND_REFLECTION: False,
}


class View(Protocol):
    """A scene, and the means to draw it.

    Attributes:
        model: what is simulated; its colours are changed.
        data: its state, never changed.
        scene: what is drawn; its camera is moved.
    """

    model: mujoco.MjModel
    data: mujoco.MjData
    scene: mujoco.MjvScene

    def update(self) -> None:
        """Make the scene anew from model and data, as `mjv_updateScene` does."""

    def draw(self) -> np.ndarray:
        """Draw the scene with its flags as they are: a new array, uint8 (size, size, 3), top row first."""


class DistractedCamera:
    """Draws a view with distractors, which move on by one decision with every frame.

    All that an episode sees is determined by the seed of its reset. Training seeds are even and those of
    evaluation odd (`agent.seeding`): backgrounds come from two pools without a common member, and colours
    and camera from streams of random numbers that differ because the seeds do.
    """

    def __init__(self, view: View, options: DistractorOptions, *, size: int, seed: int) -> None:
        """Prepare; no frame can be drawn before `start`.

        Args:
            view: what is drawn.
            options: kinds and strengths.
            size: height and width in pixels.
            seed: determines episodes that start without a seed of their own: they are training episodes.

        Raises:
            DistractorError: there is no such folder of backgrounds, or it holds other things than pictures.
        """
        self._view = view
        self._rng = np.random.default_rng(seed)
        self._background = Backgrounds(options.background, size) if options.background else None
        self._colours = Colours(view.model, STRENGTHS[options.colour]) if options.colour else None
        self._viewpoint = Viewpoint(STRENGTHS[options.camera]) if options.camera else None

    def start(self, seed: int | None) -> None:
        """Begin an episode with the seed of its reset, if it has one."""
        if seed is None:
            seed = 2 * int(self._rng.integers(2**31))
        for part in (self._background, self._colours, self._viewpoint):
            if part is not None:
                part.start(seed)

    def frame(self) -> np.ndarray:
        """See `envs.rendering.FrameCamera.frame`."""
        if self._colours is not None:
            self._colours.paint()
        self._view.update()
        if self._viewpoint is not None:
            self._viewpoint.move(self._view)
        image = self._view.draw()
        if self._background is not None:
            self._background.put_behind(image, is_background(self._view))
        return np.ascontiguousarray(image.transpose(2, 0, 1))  # (H, W, 3) -> (3, H, W)


class Backgrounds:
    """Moving pictures that lie over sky and floor, and behind everything else."""

    def __init__(self, choice: str, size: int) -> None:
        """Find the pictures.

        Args:
            choice: a strength, or a folder of clips, which a colon and a strength may follow.
            size: height and width in pixels.
        """
        self._size = size
        folder, strength = split_background(choice)
        self._strength = STRENGTHS[strength]
        self._clips = split_clips(folder) if folder else None
        self._shown: Background | None = None
        self._step = 0

    def start(self, seed: int) -> None:
        """Choose what the episode sees, and from which moment on."""
        rng = _generator("background", seed)
        is_evaluation = seed % 2
        if self._clips is not None:
            clips = self._clips[is_evaluation]
            self._shown = Clip(load_clip(clips[rng.integers(len(clips))], self._size))
        else:
            # The second number keeps the two pools apart; in evaluation, each episode has its own pattern.
            which = seed if is_evaluation else int(rng.integers(self._strength.backgrounds))
            pattern = np.random.default_rng([which, is_evaluation])
            self._shown = Waves(pattern, size=self._size, speed=self._strength.speed)
        self._step = int(rng.integers(LATEST_START))

    def put_behind(self, image: np.ndarray, where: np.ndarray) -> None:
        """Lay the next picture over an image, uint8 (size, size, 3), in place.

        Args:
            image: what the scene looks like.
            where: the pixels to change, bool (size, size).
        """
        assert self._shown is not None, "start() comes first"
        weight = np.uint16(round(256 * self._strength.opacity))
        picture = self._shown.picture(self._step)
        blend = np.right_shift(image * (256 - weight) + picture * weight, 8)
        np.copyto(image, blend.astype(np.uint8), where=where[:, :, None])
        self._step += 1


class Colours:
    """Colours of all that is drawn but the sky, in a random walk around the model's own.

    Textures are tinted, except where the light on them is at its limit, as on the reacher's floor.
    """

    def __init__(self, model: mujoco.MjModel, strength: Strength) -> None:
        """Remember the model's own colours."""
        # (rgb of every row, a view into the model; the rows to paint)
        self._tables = [(model.mat_rgba[:, :3], np.arange(model.nmat))]
        for rgba, material in (
            (model.geom_rgba, model.geom_matid),
            (model.site_rgba, model.site_matid),
            (model.tendon_rgba, model.tendon_matid),
            (model.skin_rgba, model.skin_matid),
        ):
            # MuJoCo's rule: a colour that was left at the default gives way to the material's.
            is_default = (rgba == (0.5, 0.5, 0.5, 1.0)).all(axis=1)
            self._tables.append((rgba[:, :3], np.flatnonzero((material < 0) | ~is_default)))
        own = np.concatenate([rgb[rows] for rgb, rows in self._tables])
        self._ends = np.cumsum([len(rows) for _, rows in self._tables])[:-1]
        self._low = np.clip(own - strength.scale, 0, 1)
        self._high = np.clip(own + strength.scale, 0, 1)
        self._step = COLOUR_STEP * strength.scale

    def start(self, seed: int) -> None:
        """Choose the colours that the episode begins with."""
        self._rng = _generator("colour", seed)
        self._now = self._rng.uniform(self._low, self._high)

    def paint(self) -> None:
        """Give the model the next colours."""
        for (rgb, rows), colours in zip(self._tables, np.split(self._now, self._ends), strict=True):
            rgb[rows] = colours
        step = self._rng.normal(0, self._step, self._now.shape)
        self._now = np.clip(self._now + step, self._low, self._high)


class Viewpoint:
    """A viewpoint in a random walk around the camera's own, which keeps following what the camera follows."""

    def __init__(self, strength: Strength) -> None:
        """Set the ranges of azimuth, elevation, roll (radians) and change of distance (share of it)."""
        self._low, self._high = strength.scale * VIEW_LOW, strength.scale * VIEW_HIGH
        self._step, self._fastest = strength.scale * VIEW_STEP, strength.scale * VIEW_SPEED

    def start(self, seed: int) -> None:
        """Choose where the episode begins."""
        self._rng = _generator("camera", seed)
        self._now = self._rng.uniform(self._low, self._high)
        self._velocity = self._rng.uniform(-self._fastest, self._fastest)

    def move(self, view: View) -> None:
        """Move the camera of an updated scene to the next viewpoint."""
        eyes = view.scene.camera  # of a stereo pair; what is drawn is their mean
        position = np.mean([eye.pos for eye in eyes], axis=0)
        forward = np.mean([eye.forward for eye in eyes], axis=0)
        up = np.mean([eye.up for eye in eyes], axis=0)
        depth = forward @ (view.data.subtree_com[0] - position)
        distance = max(depth, NEAREST * view.model.stat.extent)
        position, forward, up = orbit(position, forward, up, distance, self._now)
        for eye in eyes:
            eye.pos, eye.forward, eye.up = position, forward, up
        for light in view.scene.lights[: view.scene.nlight]:
            if light.headlight:
                light.pos, light.dir = position, forward
        velocity = self._velocity + self._rng.normal(0, self._step)
        moved = np.clip(self._now + np.clip(velocity, -self._fastest, self._fastest), self._low, self._high)
        self._now, self._velocity = moved, moved - self._now


def orbit(
    position: np.ndarray, forward: np.ndarray, up: np.ndarray, distance: float, change: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Swing a camera around the point that it looks at.

    A camera above the ground sinks to no less than half its height, so that it stays above the floor.

    Args:
        position: of the camera, (3,).
        forward: unit vector, (3,).
        up: unit vector, (3,).
        distance: to the point, > 0.
        change: azimuth, elevation and roll in radians, and relative change of the distance, > -1.

    Returns:
        Position, forward and up of the camera afterwards.
    """
    azimuth, elevation, roll, zoom = change
    target = position + distance * forward
    right = np.cross(forward, up)
    level = np.sin(azimuth) * right - np.cos(azimuth) * forward
    towards_camera = np.cos(elevation) * level + np.sin(elevation) * up
    moved = target + distance * (1 + zoom) * towards_camera
    if position[2] > 0:
        moved[2] = max(moved[2], position[2] / 2)
    forward = (target - moved) / np.linalg.norm(target - moved)
    up = up - (up @ forward) * forward
    up /= np.linalg.norm(up)
    return moved, forward, np.cos(roll) * up + np.sin(roll) * np.cross(forward, up)


def is_background(view: View) -> np.ndarray:
    """Which pixels show the sky or a floor, that is a plane or a height field; bool (size, size)."""
    scene = view.scene
    before = scene.flags.copy()
    for flag, value in _SEGMENTATION.items():
        scene.flags[flag] = value
    labels = view.draw() @ np.array([1, 1 << 8, 1 << 16])  # segid + 1, and 0 where nothing is drawn
    scene.flags[:] = before
    behind = np.zeros(scene.ngeom + 1, bool)
    behind[0] = True
    for geom in scene.geoms[: scene.ngeom]:
        behind[geom.segid + 1] |= geom.type in _FLOORS
    return behind[labels]


def _generator(kind: str, seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(kind.encode())))
