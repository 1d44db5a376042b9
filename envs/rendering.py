"""Drawing frames: finding an OpenGL backend that works here, and the two looks of a task.

Nothing is imported from MuJoCo until a frame is drawn, because MuJoCo reads the choice of backend from
the environment when it is imported.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from configs.distractors import NO_DISTRACTORS, DistractorOptions

if TYPE_CHECKING:
    import mujoco
    from dm_control.mujoco.engine import Camera, Physics, Pose

LOOKS = ("fast", "original")

BACKENDS = ("egl", "osmesa", "glfw")
"""In the order in which they are tried; the last draws into windows and needs a display."""

PACKAGES = {
    "egl": "apt-get install libegl1 libgl1-mesa-dri libopengl0",  # the last for PyOpenGL, which needs a libGL
    "osmesa": "apt-get install libosmesa6",
}
"""Command that brings a backend to Debian and Ubuntu."""

_HEADLESS_BACKENDS = ("egl", "osmesa")
_NO_BACKEND = "off"  # a value of MUJOCO_GL with which MuJoCo is imported without any; it counts as no choice
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "software rasterizer")

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 2'/><geom size='.5'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    assert renderer.render().any(), "the rendered frame is black"
    from OpenGL import GL
    print("renderer:", GL.glGetString(GL.GL_RENDERER).decode())
"""


class RenderingUnavailableError(RuntimeError):
    """No OpenGL backend can draw a frame on this machine; the message says what to install."""


class RenderingTimeoutError(RenderingUnavailableError):
    """A backend drew nothing in the time it was given."""


@dataclass(frozen=True)
class Backend:
    """An OpenGL backend that drew a frame.

    Attributes:
        name: value of `MUJOCO_GL`: egl, osmesa or glfw.
        renderer: what OpenGL calls itself, for instance `llvmpipe (LLVM 15.0.6, 256 bits)`.
    """

    name: str
    renderer: str

    @property
    def is_software(self) -> bool:
        """Whether it draws on the CPU."""
        return any(name in self.renderer.lower() for name in _SOFTWARE)


def select_backend(timeout_s: float = 60.0) -> Backend:
    """Find a backend that draws here and choose it for this process; call before MuJoCo is imported.

    A `MUJOCO_GL` that is set already is the only one tried. Each backend draws a tiny scene in a process
    of its own, because a broken driver may crash or hang. Sets `MUJOCO_GL` and `PYOPENGL_PLATFORM`.

    Args:
        timeout_s: longest that one backend may take, in seconds.

    Raises:
        RenderingUnavailableError: none works.
    """
    chosen = chosen_backend()
    failures = []
    for name in (chosen,) if chosen else usual_backends():
        try:
            backend = probe_backend(name, timeout_s)
        except RenderingUnavailableError as error:
            failures.append(str(error))
        else:
            os.environ.update(_backend_environment(name))
            return backend
    raise RenderingUnavailableError(_how_to_fix(chosen, failures))


def try_backend() -> Backend | None:
    """As `select_backend`, for what can do without frames: returns None where no backend works."""
    try:
        return select_backend()
    except RenderingUnavailableError:
        os.environ["MUJOCO_GL"] = _NO_BACKEND  # otherwise MuJoCo may fail to import
        return None


def chosen_backend() -> str:
    """The user's choice, `MUJOCO_GL`, in lower case as dm_control wants it; empty where there is none."""
    value = os.environ.get("MUJOCO_GL", "").strip().lower()
    return "" if value == _NO_BACKEND else value


def usual_backends() -> tuple[str, ...]:
    """What is tried, in this order, where the user has chosen nothing."""
    return BACKENDS if os.environ.get("DISPLAY") else _HEADLESS_BACKENDS


def ensure_backend(*, needed: bool = True) -> None:
    """Choose a backend, unless a parent process has: workers inherit its choice.

    Args:
        needed: whether frames are going to be drawn; otherwise it is no fault that none works.

    Raises:
        RenderingUnavailableError: none works, and one is needed.
    """
    if multiprocessing.parent_process() is None or not os.environ.get("MUJOCO_GL"):
        (select_backend if needed else try_backend)()


@functools.cache
def probe_backend(name: str, timeout_s: float = 60.0, *, without: tuple[str, ...] = ()) -> Backend:
    """Draw a tiny scene with one backend in a process of its own.

    Args:
        name: egl, osmesa or glfw.
        timeout_s: longest that it may take, in seconds.
        without: environment variables that the process does not get.

    Raises:
        RenderingUnavailableError: it failed or took too long.
    """
    return Backend(name, ask_process(name, _PROBE, "renderer:", timeout_s, without=without))


def ask_process(
    name: str, program: str, label: str, timeout_s: float, *, without: tuple[str, ...] = ()
) -> str:
    """Run a program with one backend in a process of its own, because a broken driver may crash or hang.

    Args:
        name: egl, osmesa or glfw.
        program: Python that prints the label and then its answer.
        label: what precedes the answer.
        timeout_s: longest that it may take, in seconds.
        without: environment variables that the process does not get.

    Returns:
        The rest of the line after the label.

    Raises:
        RenderingUnavailableError: it failed or took too long.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in without}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=inherited | _backend_environment(name),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise RenderingTimeoutError(
            f"{name}: no frame within {timeout_s:g} s (a driver that hangs, or a busy machine: try again)"
        ) from None
    if done.returncode < 0:  # the last line on stderr would be of something else
        raise RenderingUnavailableError(f"{name}: killed by {signal.Signals(-done.returncode).name}")
    _, found, answer = done.stdout.partition(label)
    if done.returncode or not found:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RenderingUnavailableError(f"{name}: {lines[-1]}")
    return answer.strip().partition("\n")[0]


def _backend_environment(name: str) -> dict[str, str]:
    platform = {"PYOPENGL_PLATFORM": name} if name in _HEADLESS_BACKENDS else {}
    return {"MUJOCO_GL": name, **platform}


def _how_to_fix(chosen: str, failures: list[str]) -> str:
    tried = "; ".join(failures)
    unset = f" MUJOCO_GL={chosen} was tried alone: unset it to let others be tried." if chosen else ""
    return (
        "no OpenGL backend can draw frames here. On Debian or Ubuntu install one: "
        f"`{PACKAGES['egl']}` (EGL) or `{PACKAGES['osmesa']}` (OSMesa); `nearfar doctor` says more."
        f"{unset} Tried: {tried}"
    )


class FrameCamera(Protocol):
    """Draws the current state of a physics simulation."""

    def start(self, seed: int | None) -> None:
        """Begin an episode with the seed of its reset, if it has one; call before its first frame."""

    def frame(self) -> np.ndarray:
        """A new frame, uint8 (3, size, size), that shares no memory with earlier ones."""


def make_camera(
    physics: Physics,
    *,
    size: int,
    camera_id: int,
    look: str,
    distract: str,
    seed: int,
    pose: Pose | None = None,
) -> FrameCamera:
    """Build the camera of a look; call before the first frame of this physics is drawn.

    Args:
        physics: what is drawn; its visual settings are changed by the fast look.
        size: height and width in pixels; 0: nothing is drawn.
        camera_id: camera of the model, or -1 for a free one.
        look: `fast` or `original`.
        distract: distractors, in the text form of `configs.distractors.DistractorOptions`.
        seed: determines the distractors of episodes that begin without a seed of their own.
        pose: where the free camera stands; unset: where it sees the whole model.

    Raises:
        ValueError: no such look, or no such distractors.
        DistractorError: the folder of backgrounds cannot be used.
    """
    if look not in LOOKS:
        raise ValueError(f"look must be one of {', '.join(LOOKS)}; got {look!r}")
    if not size:
        return NoCamera()
    if distract != NO_DISTRACTORS:
        from envs.distractors import DistractedCamera

        view = SuiteView(physics, size, camera_id, look, pose)
        return DistractedCamera(view, DistractorOptions.parse(distract), size=size, seed=seed)
    return (FastCamera if look == "fast" else OriginalCamera)(physics, size, camera_id, pose)


class NoCamera:
    """Draws nothing, and needs no backend for it."""

    def start(self, seed: int | None) -> None:
        """See `FrameCamera.start`: there is nothing to begin."""

    def frame(self) -> np.ndarray:
        """See `FrameCamera.frame`: of size 0."""
        return np.empty((3, 0, 0), np.uint8)


class FastCamera:
    """No shadows, reflections or multisampling, and a framebuffer as small as the image.

    Changes the pixels, not the physics; tens of times faster where OpenGL runs on the CPU.
    """

    def __init__(self, physics: Physics, size: int, camera_id: int, pose: Pose | None = None) -> None:
        """Prepare the scene."""
        self._camera = _fast_camera(physics, size, camera_id, pose)

    def start(self, seed: int | None) -> None:
        """See `FrameCamera.start`: all episodes are drawn alike."""

    def frame(self) -> np.ndarray:
        """See `FrameCamera.frame`."""
        return _channels_first(self._camera.render())


class OriginalCamera:
    """What dm_control and Gymnasium draw when they are left alone, as in published results."""

    def __init__(self, physics: Physics, size: int, camera_id: int, pose: Pose | None = None) -> None:
        """Place the camera."""
        self._camera = _place(physics, size, camera_id, pose)

    def start(self, seed: int | None) -> None:
        """See `FrameCamera.start`: all episodes are drawn alike."""

    def frame(self) -> np.ndarray:
        """See `FrameCamera.frame`."""
        return _channels_first(self._camera.render())


def _place(physics: Physics, size: int, camera_id: int, pose: Pose | None) -> Camera:
    """A camera with the scene it draws, both kept for all frames."""
    from dm_control.mujoco.engine import Camera, MovableCamera

    if camera_id >= 0:
        return Camera(physics, height=size, width=size, camera_id=camera_id)
    camera = MovableCamera(physics, height=size, width=size)
    if pose is not None:
        camera.set_pose(*pose)
    return camera


class SuiteView:
    """A scene of dm_control that may be changed before it is drawn; see `envs.distractors.View`."""

    def __init__(
        self, physics: Physics, size: int, camera_id: int, look: str, pose: Pose | None = None
    ) -> None:
        """Prepare the scene in one of the looks."""
        self._camera = (_fast_camera if look == "fast" else _place)(physics, size, camera_id, pose)
        self._physics = physics
        self._image = np.empty((size, size, 3), np.uint8)
        self.model = physics.model.ptr
        self.data = physics.data.ptr
        self.scene = self._camera.scene.ptr

    def update(self) -> None:
        """See `View.update`."""
        self._camera.update()

    def draw(self) -> np.ndarray:
        """See `View.draw`."""
        contexts = self._physics.contexts
        with contexts.gl.make_current() as context:
            context.call(self._draw, contexts.mujoco.ptr)
        return contexts.gl.to_pixels(self._image).copy()

    def _draw(self, context: mujoco.MjrContext) -> None:
        import mujoco

        size = len(self._image)
        viewport = mujoco.MjrRect(0, 0, size, size)
        mujoco.mjr_render(viewport, self.scene, context)
        mujoco.mjr_readPixels(self._image, None, viewport, context)


def forget_current_context() -> None:
    """Let dm_control make its contexts current anew, where others made theirs and it cannot know."""
    from dm_control._render import base

    base._CURRENT_CONTEXT_FOR_THREAD.clear()
    base._CURRENT_THREAD_FOR_CONTEXT.clear()


def _fast_camera(physics: Physics, size: int, camera_id: int, pose: Pose | None) -> Camera:
    """Set the model's visual quality, which is read when the OpenGL context is made."""
    import mujoco

    visual = physics.model.vis
    visual.quality.shadowsize = 0
    visual.quality.offsamples = 0
    visual.global_.offwidth = visual.global_.offheight = size
    camera = _place(physics, size, camera_id, pose)
    camera.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
    return camera


def _channels_first(image: np.ndarray) -> np.ndarray:
    # (H, W, 3) -> (3, H, W); a copy, because the renderer draws into the same buffer again
    return image.transpose(2, 0, 1).copy()
